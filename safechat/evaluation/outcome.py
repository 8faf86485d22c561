"""How a run of a command ends: its files, and its figures on the screen."""

import asyncio
import json
import shlex
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from safechat.evaluate import needing_extra
from server.cli import err

if TYPE_CHECKING:
    from flywheel.evaluation.runs.result import Result

T = TypeVar("T")


def measured(work: "Coroutine[Any, Any, Result]", out: Path, *, as_json: bool) -> None:
    """Carry a run out, write its result and report, and print its figures."""
    with needing_extra("eval"):
        from flywheel.evaluation.runs.report import write_report

    result = run(work)
    result = result.model_copy(
        update={"about": {**result.about, "command": shlex.join(["safechat", *sys.argv[1:]])}}
    )
    paths = [*result.write(out), write_report(result, out)]
    for path in paths:
        note(f"wrote {path}")
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), allow_nan=False))
    else:
        _show(result)


def _show(result: "Result") -> None:
    from flywheel.evaluation.runs.report import TITLES, figure_rows

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


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C says that nothing is lost."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        note("stopped; what is done is kept, and the same command goes on from there")
        raise typer.Exit(130) from None


def note(text: str) -> None:
    """A line on standard error."""
    err.print(f"safechat: {text}", markup=False, highlight=False)
