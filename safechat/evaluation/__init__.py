"""A deployed model measured through its public API: `safechat eval …`, `redteam` and `report`."""

import typer

from safechat.evaluation.benchmarks import benchmarks
from safechat.evaluation.everything import everything
from safechat.evaluation.helpfulness import helpfulness
from safechat.evaluation.redteam import app as redteam
from safechat.evaluation.refusal import refusal
from safechat.evaluation.regress import regress
from safechat.evaluation.report import report
from safechat.evaluation.safety import safety

__all__ = ["add_evaluations", "redteam", "report"]


def add_evaluations(app: typer.Typer) -> None:
    """Put the evaluations beside those that `app` has."""
    for command in (safety, refusal, helpfulness, benchmarks, regress):
        app.command()(command)
    app.command("all")(everything)
