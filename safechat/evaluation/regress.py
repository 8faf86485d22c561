"""`safechat eval regress`: has a model become worse?"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from safechat.evaluate import needing_extra
from safechat.evaluation.options import Seed
from server.cli import explained

WORSE = 1
"""Exit status of a worsening beyond its limit."""


def regress(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="A run's folder or result.json.")
    ],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The same of the candidate.")],
    worse_by: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=LIMIT", help="Worsening put up with; may be repeated."),
    ] = None,
    default_limit: Annotated[
        float, typer.Option(min=0, help="The same for metrics that are not named.")
    ] = 0.0,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two results on the items that both have, and fail if the second is worse.

    Values of one item before and after are a pair, and intervals are bootstrapped over pairs. A
    metric is worse when its mean has worsened by more than its limit, and its 95 % interval leaves
    no room for no change. Each metric knows its better direction.

    \b
      safechat eval regress runs/old runs/new
      safechat eval regress runs/old runs/new --worse-by helpfulness=0.02 --worse-by violation=0

    Exit status: 0, 1 when something is worse, 2 when the results cannot be compared.
    """  # noqa: D301
    with explained():
        with needing_extra("eval"):
            from flywheel.evaluation.regress import regress as compare
            from flywheel.evaluation.runs.result import Result

        found = compare(
            Result.read(before),
            Result.read(after),
            dict(map(_limit, worse_by or ())),
            default_limit=default_limit,
            seed=seed,
        )
    if as_json:
        typer.echo(json.dumps(found.as_json(), allow_nan=False))
    else:
        table = Table("metric", "n", "before", "after", "change (95 % interval)", "limit", "")
        for comparison in found.comparisons:
            of = comparison.paired
            low, high = of.interval or (None, None)
            interval = "" if low is None else f" ({low:+.3f} … {high:+.3f})"
            table.add_row(
                of.metric,
                str(of.n),
                f"{of.before:.3f}",
                f"{of.after:.3f}",
                f"{of.change:+.3f}{interval}",
                f"{comparison.limit:g}",
                "worse" if comparison.worse else "",
            )
        out = Console()
        (out if out.is_terminal else Console(width=120)).print(table)
    if found.worse:
        raise typer.Exit(WORSE)


def _limit(written: str) -> tuple[str, float]:
    name, _, limit = written.partition("=")
    try:
        value = float(limit)
    except ValueError:
        value = -1.0
    if not name or value < 0:
        raise ValueError(f"--worse-by is like helpfulness=0.02, and {written!r} is not")
    return name, value
