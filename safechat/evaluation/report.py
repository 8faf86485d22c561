"""`safechat report`: the system card."""

from pathlib import Path
from typing import Annotated

import typer

from safechat.evaluate import needing_extra
from safechat.evaluation.outcome import note
from server.cli import explained


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Run folders and result files.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for card.html and card.md.")],
    name: Annotated[str, typer.Option(help="Of the deployed system.")] = "SafeChat",
) -> None:
    """Write the system card: all that was measured, from the result files alone.

    RESULT is the folder of a run (`safechat eval …`, `safechat redteam run`), its result.json, or
    what `safechat eval guard --json` printed. Its known limits are read off the files too: what
    was not measured, what failed, whose judgement it was.

    \b
      safechat eval guard --data data --json > guard.json
      safechat report runs/safety runs/refusal runs/redteam guard.json --out card
    """  # noqa: D301
    with explained():
        with needing_extra("eval"):
            from flywheel.evaluation.card.read import read_findings
            from flywheel.evaluation.card.write import write_card

        for path in write_card(read_findings(results), out, name):
            note(f"wrote {path}")
