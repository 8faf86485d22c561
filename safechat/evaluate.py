"""`safechat eval guard`: how good the guard is, measured on labelled data."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from server.cli import err, explained
from server.settings import load_settings

app = typer.Typer(
    help="Measure the guard on labelled data, and deployed models through their API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@contextmanager
def needing_extra(extra: str) -> Iterator[None]:
    """Turn a library that is not installed into the name of the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed: pip install 'safechat[{extra}]' brings it"
        ) from error


@app.command()
def guard(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More of --data.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON lines file, or a folder of them; may be repeated."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Rows of this split, and rows without a split.")
    ] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    streamed: Annotated[
        bool, typer.Option("--streamed", help="Also play each reply through the streaming gate.")
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write roc.png and calibration.png into this folder."),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--guard", metavar="DIR", help="Folder of reward models; default: setting guard.models."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many random rows of each source.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")] = 0,
) -> None:
    """Run the guard over labelled rows, and print figures by source, by file and over all.

    A row is a JSON object with a source, a split, and the fields of one kind:

    \b
      prompt  prompt, harmful             a request, judged before generation
      text    text, toxic                 any text, judged as if a user had sent it
      reply   messages, response, unsafe  a reply, judged after the conversation
      pair    messages, chosen, rejected  two replies: does the preferred one score higher?

    harmful, toxic and unsafe are 0 or 1, and 1 is positive. Pairs are judged by the safety
    model when their file or source has "safety" or "harmless" in its name, else by the
    helpfulness model. Rows of other shapes and unreadable lines are counted and left out.

    A text is flagged when its safety is below the threshold of its stage, as the settings in
    force say. Recall is the share of the positive rows that is flagged, the false positive rate
    that of the others. AUC and ECE look at scores, not at flags: 0.5 is chance for the one, 0 is
    best for the other. Beside pair accuracy stands that of always choosing the longer reply.
    Intervals are 95 % bootstrap intervals over prompts.

    \b
      safechat eval guard --data data/prompt_harm.jsonl
      safechat eval guard --data data --split dev --limit 100 --streamed
      safechat eval guard --data data --json --plots figures > figures.json

    Exit status: 0, or 2 when there is nothing to evaluate or a file or model cannot be read.
    """  # noqa: D301
    with explained():
        with needing_extra("train"):
            from flywheel.evaluation.guard.plots import draw
            from flywheel.evaluation.guard.report import evaluate
            from flywheel.evaluation.guard.rows import limited, read
            from flywheel.evaluation.guard.table import WIDTH, tables
        from server.open_guard import load_reward_model

        paths = [*(data or ()), *(files or ())]
        if not paths:
            raise ValueError("name at least one file: safechat eval guard --data FILE")
        settings = load_settings(guard={"models": models} if models else {}).guard
        reading = read(paths, split, note=_note)
        if limit is not None:
            reading = limited(reading, limit, seed)
        axes = sorted({item.axis for item in reading.items})
        with Progress(console=err, transient=True) as progress:
            report = evaluate(
                reading,
                {axis: load_reward_model(settings, axis) for axis in axes},
                settings.policy(),
                streamed=streamed,
                seed=seed,
                progress=progress,
                about={"command": shlex.join(["safechat", *sys.argv[1:]])},
            )
        for path in draw(report, plots) if plots is not None else ():
            _note(f"wrote {path}")
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2, allow_nan=False))
    else:
        out = Console()
        out = out if out.is_terminal else Console(width=WIDTH)
        out.print(tables(report))


def _note(text: str) -> None:
    err.print(f"safechat: {text}", markup=False, highlight=False)
