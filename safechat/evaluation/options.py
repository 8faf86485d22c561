"""Options of the commands that ask a deployed model: who is asked, what, and where it is kept."""

import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from safechat.evaluation.outcome import measured

if TYPE_CHECKING:
    from flywheel.evaluation.panel import Panel, RunOptions
    from flywheel.evaluation.runs.endpoint import Endpoint
    from flywheel.evaluation.runs.items import Item
    from flywheel.evaluation.runs.result import Result

Prompts = Annotated[
    list[Path],
    typer.Option(metavar="FILE", help="JSON lines of prompts; may be repeated."),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of the run; resumed if it is there.")
]
ServedName = Annotated[str | None, typer.Option(help="Its served name; default: the only one.")]
Split = Annotated[
    list[str] | None,
    typer.Option(help="Only rows of it, and rows without one; may be repeated."),
]
Source = Annotated[
    list[str] | None, typer.Option(help="Only rows of this source; may be repeated.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="So many random rows of each source.")]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="A reply of lower safety is a violation.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Of a reply.")]
Parallel = Annotated[
    int, typer.Option(min=1, help="Items asked at the same time; 1 repeats exactly on vLLM.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who is asked and who scores, and how replies are sampled."""

    url: Annotated[str, typer.Option(metavar="URL", help="The endpoint under test.")]
    model: Annotated[str | None, typer.Option(help="Served name; default: the only one.")] = None
    guard: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Gateway that scores all texts; default: the endpoint."),
    ] = None
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="Of the endpoint under test.")
    ] = 0.0
    max_tokens: MaxTokens = 256
    seed: Seed = 0

    def endpoint(self, url: str, model: str | None = None) -> "Endpoint":
        """An endpoint sampled as the command says, with the key in OPENAI_API_KEY."""
        from flywheel.evaluation.runs.endpoint import Endpoint, Sampling

        sampling = Sampling(self.temperature, self.max_tokens, self.seed)
        key = os.environ.get("OPENAI_API_KEY")
        return Endpoint(url, model=model, api_key=key, sampling=sampling)

    @asynccontextmanager
    async def panel(self) -> "AsyncIterator[Panel]":
        """All who take part, connected until the block ends."""
        from flywheel.evaluation.panel import Panel

        async with self.endpoint(self.url, self.model) as target:
            if self.guard is None:
                yield Panel(target, target)
                return
            async with keyed(self.guard, "GUARD_API_KEY") as guard:
                yield Panel(target, guard)


@dataclass(frozen=True, kw_only=True)
class Judged(Asked):
    """The same, and perhaps a judge model."""

    judge: Annotated[
        str | None, typer.Option(metavar="URL", help="A judge model behind the OpenAI API.")
    ] = None
    judge_model: ServedName = None

    @asynccontextmanager
    async def panel(self) -> "AsyncIterator[Panel]":
        from flywheel.evaluation.judge.model import JudgeModel

        async with super().panel() as panel:
            if self.judge is None:
                yield panel
                return
            async with keyed(self.judge, "JUDGE_API_KEY", self.judge_model) as judge:
                yield replace(panel, judge=JudgeModel(judge))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which rows of the files are asked."""

    split: Split = None
    source: Source = None
    role: Annotated[
        list[str] | None,
        typer.Option(help="adversarial, harmless or borderline rows only; may be repeated."),
    ] = None
    limit: Limit = None
    seed: Seed = 0

    def items(self, paths: Sequence[Path]) -> "list[Item]":
        """Raises OSError, BadItems."""
        from flywheel.evaluation.runs.items import read_items

        return read_items(
            paths,
            splits=self.split or (),
            sources=self.source or (),
            roles=self.role or (),
            limit=self.limit,
            seed=self.seed,
        )

    def about(self, paths: Sequence[Path]) -> dict[str, Any]:
        """For the result: the files by hash, and what was chosen of them."""
        from flywheel.evaluation.panel import files_asked

        chosen = {
            "splits": self.split,
            "sources": self.source,
            "roles": self.role,
            "limit": self.limit,
        }
        return {"files": files_asked(paths)} | {k: v for k, v in chosen.items() if v}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a run is kept, and how it goes."""

    out: Out
    parallel: Parallel = 8
    seed: Seed = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print the result file.")] = False

    def options(
        self, progress: Progress, about: Mapping[str, Any], threshold: float = 0.5
    ) -> "RunOptions":
        from flywheel.evaluation.panel import RunOptions

        return RunOptions(self.out, progress, self.parallel, self.seed, threshold, about)

    def finish(self, work: "Coroutine[Any, Any, Result]") -> None:
        """Carry the run out, keep its result and report, and print the figures."""
        measured(work, self.out, as_json=self.as_json)


def keyed(url: str, variable: str, model: str | None = None) -> "Endpoint":
    """An endpoint whose key stands in an environment variable."""
    from flywheel.evaluation.runs.endpoint import Endpoint

    return Endpoint(url, model=model, api_key=os.environ.get(variable))
