"""`safechat flywheel`: what becomes of the journal: agreement, data sets, replays, backups."""

import typer

from safechat.flywheel.agreement import agreement
from safechat.flywheel.export import export
from safechat.flywheel.replay import replay
from safechat.flywheel.store import dump, load, status

app = typer.Typer(
    help="From recorded turns to better models: agreement, data sets, replays, backups.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(status)
app.command()(agreement)
app.command()(export)
app.command()(replay)
app.command("import")(load)
app.command()(dump)
