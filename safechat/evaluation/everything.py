"""`safechat eval all`: every evaluation in short, one after another, and the card of them all."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from safechat.evaluation.children import child
from safechat.evaluation.options import MaxTokens, Parallel, Seed, ServedName, Source, Split
from safechat.evaluation.outcome import note, run
from safechat.evaluation.plan import Other, Plan, Step
from server.cli import err, explained


def everything(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of all runs; resumed if it is there.")
    ],
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The gateway under test; default: the bundled model, started here."
        ),
    ] = None,
    model: ServedName = None,
    against: Annotated[
        str | None, typer.Option(metavar="URL", help="Another endpoint to compare it with.")
    ] = None,
    against_model: ServedName = None,
    judge: Annotated[
        str | None, typer.Option(metavar="URL", help="A judge model behind the OpenAI API.")
    ] = None,
    judge_model: ServedName = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON lines of prompts; default: a starter set."),
    ] = None,
    split: Split = None,
    source: Source = None,
    limit: Annotated[
        int, typer.Option(min=1, help="So many random rows of each source, questions of each task.")
    ] = 60,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of benchmarks' files; default: the bias benchmark alone."
        ),
    ] = None,
    max_tokens: MaxTokens = 96,
    parallel: Parallel = 8,
    seed: Seed = 0,
) -> None:
    """Every evaluation in short, one after another, and a card of them all.

    \b
      safety, refusal, benchmarks, redteam   of the gateway under test
      helpfulness, refusal-against, regress  beside the other endpoint
      report                                 DIR/card/card.html and card.md

    Each is a command of its own, told as it starts, with a folder of its own below DIR. Killed or
    stopped, the same command goes on where it was. Prompts should have roles (adversarial,
    harmless, borderline), since each evaluation asks those that it is about. Keys come from the
    environment, as for the others.

    Without --url the bundled model is started with a gateway before it, and the gateway is
    compared with its bare engine.

    \b
      safechat eval all --out runs/all
      safechat eval all --url http://new:8000 --against http://old:8000 --prompts own.jsonl \\
        --data benchmarks --limit 200 --max-tokens 256 --out runs/new
    """  # noqa: D301

    async def work() -> None:
        out.mkdir(parents=True, exist_ok=True)
        named = Other(against, against_model) if against else None
        async with _tested(out, url, named) as (gateway, other):
            with ExitStack() as until:
                plan = Plan(
                    out=out,
                    url=gateway,
                    model=model,
                    against=other,
                    prompts=prompts or [until.enter_context(as_file(one)) for one in _starters()],
                    limit=limit,
                    data=data,
                    rows={"--split": split, "--source": source},
                    asked={"--max-tokens": max_tokens, "--parallel": parallel, "--seed": seed},
                    judged={"--judge": judge, "--judge-model": judge_model},
                )
                await _carry_out(plan.steps())

    with explained():
        if url is None and (against or model):
            raise ValueError("--against and --model go with --url: name the gateway under test")
        run(work())


@asynccontextmanager
async def _tested(
    out: Path, url: str | None, against: Other | None
) -> AsyncIterator[tuple[str, Other | None]]:
    """The gateway under test, and what it is compared with; without an address, both our own."""
    if url is not None:
        yield url, against
        return
    # What supervises an engine takes its time to load, and all commands load this file.
    from safechat.evaluation.bundled import bundled_system

    async with bundled_system(out) as (gateway, engine):
        yield gateway, Other(engine)


def _starters() -> list[Traversable]:
    """Prompts for whoever has none: of every role, and the seeds of red teaming."""
    room = files("flywheel.evaluation")
    return [room / "starters.jsonl", room / "redteam" / "seeds.jsonl"]


async def _carry_out(steps: Sequence[Step]) -> None:
    for number, step in enumerate(steps, start=1):
        told = " ".join(step.words[: 1 if step.words[0] == "report" else 2])
        err.rule(f"{number} of {len(steps)}: safechat {told}", align="left")
        async with child(step.words) as process:
            status = await process.wait()
        if status not in (0, step.also_fine):
            note(f"{told} ended with status {status}; the same command goes on from there")
            raise typer.Exit(status)
