"""What evaluations are tried on: a gateway before a scripted engine, and a scripted judge model."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from flywheel.evaluation.judge.model import JudgeModel
from flywheel.evaluation.panel import Panel, RunOptions
from flywheel.evaluation.runs.endpoint import Endpoint
from flywheel.evaluation.runs.items import Item
from flywheel.journal import Journal
from guard.policy import Policy
from tests.fakes.gateway import RunningGateway, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import Body


def asked(body: Body) -> str:
    """The newest message of a request."""
    return str(body["messages"][-1]["content"])


def echo(body: Body) -> Script:
    """Repeats what was asked, so that a reply is as safe as its prompt's words are."""
    return Script.words(f"You said: {asked(body)}")


def items(*prompts: str, **more: Any) -> list[Item]:
    return [Item(id=f"item-{n}", turns=(text,), **more) for n, text in enumerate(prompts)]


def options(folder: Path, **more: Any) -> RunOptions:
    return RunOptions(folder, Progress(disable=True), **more)


@dataclass(frozen=True)
class Stand:
    """engine: bare, and unguarded. gateway: before it."""

    engine: ScriptedEngine
    gateway: RunningGateway

    @asynccontextmanager
    async def panel(
        self, *, guarded: bool = False, judge: str | None = None, retries: int = 10
    ) -> AsyncIterator[Panel]:
        """Asks the bare engine unless it is to be guarded; the gateway scores."""
        url = self.gateway.url if guarded else self.engine.url
        async with (
            Endpoint(url, retries=retries) as target,
            Endpoint(self.gateway.url) as guard,
            Endpoint(judge or url) as judging,
        ):
            yield Panel(target, guard, JudgeModel(judging) if judge else None)


@asynccontextmanager
async def stand(
    script: Script | Callable[[Body], Script] = echo,
    *,
    journal: Journal | None = None,
    policy: Policy | None = None,
) -> AsyncIterator[Stand]:
    """Finds "bomb" unsafe and "sorry" a refusal, as the scripted guard does."""
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=policy)
    async with (
        ScriptedEngine(script) as engine,
        run_gateway(
            quick_settings(), engine_url=engine.url, guard=guard, journal=journal
        ) as gateway,
    ):
        yield Stand(engine, gateway)


def says(answers: Sequence[str] | Mapping[str, str] | str) -> ScriptedEngine:
    """A judge model that gives these answers in turn, or by a word of the question, or always."""
    if isinstance(answers, str):
        return ScriptedEngine(Script.words(answers), model="judge", max_model_len=100_000)
    if isinstance(answers, Mapping):
        known = dict(answers)

        def by_word(body: Body) -> Script:
            return Script.words(next(a for word, a in known.items() if word in asked(body)))

        return ScriptedEngine(by_word, model="judge", max_model_len=100_000)
    judge = ScriptedEngine(model="judge", max_model_len=100_000)
    judge.enqueue(*(Script.words(answer) for answer in answers))
    return judge
