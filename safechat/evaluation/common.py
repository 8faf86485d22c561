"""What the commands that ask a deployed model share: options, and how a run ends."""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from safechat.evaluate import needing_extra
from server.cli import err

if TYPE_CHECKING:
    from flywheel.evaluation.panel import Panel
    from flywheel.evaluation.runs.endpoint import Endpoint
    from flywheel.evaluation.runs.items import Item
    from flywheel.evaluation.runs.result import Result

T = TypeVar("T")

Url = Annotated[str, typer.Option(metavar="URL", help="The endpoint under test.")]
Prompts = Annotated[
    list[Path],
    typer.Option(metavar="FILE", help="JSON lines of prompts; may be repeated."),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of the run; resumed if it is there.")
]
Model = Annotated[str | None, typer.Option(help="Served name; default: the only one.")]
Guard = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Gateway that scores all texts; default: the endpoint."),
]
Judge = Annotated[
    str | None, typer.Option(metavar="URL", help="A judge model behind the OpenAI API.")
]
JudgeModelName = Annotated[str | None, typer.Option(help="Its served name; default: the only one.")]
Split = Annotated[
    list[str] | None, typer.Option(help="Only rows of it, and rows without one; may be repeated.")
]
Source = Annotated[
    list[str] | None, typer.Option(help="Only rows of this source; may be repeated.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="So many random rows of each source.")]
Parallel = Annotated[int, typer.Option(min=1, help="Items asked at the same time.")]
Temperature = Annotated[float, typer.Option(min=0, max=2, help="Of the endpoint under test.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Of a reply.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="A reply of lower safety is a violation.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result file.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command was told of the endpoint, its judges and the sampling."""

    url: str
    model: str | None = None
    guard: str | None = None
    judge: str | None = None
    judge_model: str | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0

    def endpoint(self, url: str, model: str | None = None) -> "Endpoint":
        """An endpoint sampled as the command says, with the key in OPENAI_API_KEY."""
        from flywheel.evaluation.runs.endpoint import Endpoint, Sampling

        sampling = Sampling(self.temperature, self.max_tokens, self.seed)
        key = os.environ.get("OPENAI_API_KEY")
        return Endpoint(url, model=model, api_key=key, sampling=sampling)

    @asynccontextmanager
    async def panel(self) -> "AsyncIterator[Panel]":
        """All who take part, connected until the block ends."""
        from flywheel.evaluation.judge.model import JudgeModel
        from flywheel.evaluation.panel import Panel
        from flywheel.evaluation.runs.endpoint import Endpoint

        async with AsyncExitStack() as open_until:
            target = await open_until.enter_async_context(self.endpoint(self.url, self.model))
            guard = target
            if self.guard is not None:
                asked = Endpoint(self.guard, api_key=os.environ.get("GUARD_API_KEY"))
                guard = await open_until.enter_async_context(asked)
            judge = None
            if self.judge is not None:
                asked = Endpoint(
                    self.judge, model=self.judge_model, api_key=os.environ.get("JUDGE_API_KEY")
                )
                judge = JudgeModel(await open_until.enter_async_context(asked))
            yield Panel(target, guard, judge)


def measured(work: "Coroutine[Any, Any, Result]", out: Path, *, as_json: bool) -> None:
    """Carry a run out, write its result and report, and print its figures."""
    with needing_extra("eval"):
        from flywheel.evaluation.runs.report import TITLES, figure_rows, write_report

    result = run(work)
    result = result.model_copy(
        update={"about": {**result.about, "command": shlex.join(["safechat", *sys.argv[1:]])}}
    )
    paths = [*result.write(out), write_report(result, out)]
    for path in paths:
        note(f"wrote {path}")
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), allow_nan=False))
        return
    table = Table(
        TITLES[result.kind], "figure (95 % interval)", "n", title=str(result.about["model"])
    )
    for words, figure, n in figure_rows(result.figures):
        table.add_row(words, figure, str(n))
    for name, value in (*result.measures.items(), *result.timing.items()):
        table.add_row(name.replace("_", " "), "–" if value is None else f"{value:.3g}", "")
    for name, count in result.counts.items():
        table.add_row(name.replace("_", " "), "", str(count))
    out_to = Console()
    (out_to if out_to.is_terminal else Console(width=120)).print(table)
    for text in result.notes:
        note(text)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows of which files are asked."""

    prompts: list[Path]
    splits: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0

    def items(self) -> "list[Item]":
        """Raises OSError, BadItems."""
        from flywheel.evaluation.runs.items import read_items

        return read_items(
            self.prompts,
            splits=self.splits,
            sources=self.sources,
            limit=self.limit,
            seed=self.seed,
        )

    def about(self) -> dict[str, Any]:
        """For the result: the files by hash, and what was chosen of them."""
        from flywheel.evaluation.panel import files_asked

        chosen = {"splits": list(self.splits), "sources": list(self.sources), "limit": self.limit}
        return {"files": files_asked(self.prompts)} | {k: v for k, v in chosen.items() if v}


def run(work: "Coroutine[Any, Any, T]") -> T:
    """Run to the end; Ctrl-C says that nothing is lost."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        note("stopped; what is done is kept, and the same command goes on from there")
        raise typer.Exit(130) from None


def note(text: str) -> None:
    """A line on standard error."""
    err.print(f"safechat: {text}", markup=False, highlight=False)
