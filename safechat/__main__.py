"""Entry point: the gateway's commands, and those that need the training libraries.

The gateway's image has no training libraries, so a command that needs them imports them when
it is called.
"""

import os

import typer

from safechat.evaluate import app as evaluate
from safechat.evaluation import add_evaluations, redteam, report
from safechat.flywheel import app as flywheel
from server.cli import app as gateway
from server.logs import configure_logging

app = typer.Typer(
    name="safechat",
    help="A safe chat serving system: guarded turns on vLLM behind the OpenAI API.\n\n"
    "Settings come from SAFECHAT_… environment variables and the TOML file that "
    "SAFECHAT_CONFIG names; see docs/operations.md.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(gateway)
app.add_typer(evaluate, name="eval")
app.add_typer(redteam, name="redteam")
app.add_typer(flywheel, name="flywheel")
add_evaluations(evaluate)
app.command()(report)


def main() -> None:
    configure_logging(json=os.environ.get("SAFECHAT_SERVER__LOG_JSON", "") == "true")
    app()


if __name__ == "__main__":
    main()
