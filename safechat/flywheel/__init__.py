"""`safechat flywheel`: what becomes of the journal: agreement, data sets, replays, training."""

import typer

from safechat.flywheel.agreement import agreement
from safechat.flywheel.export import export
from safechat.flywheel.replay import replay
from safechat.flywheel.store import dump, load, status
from safechat.flywheel.versions import promote, register, rollback, shadow, versions
from safechat.flywheel.wheel import PASSED_ON, run_wheel, train

app = typer.Typer(
    help="From recorded turns to better models: agreement, data sets, training, versions.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(status)
app.command()(agreement)
app.command()(export)
app.command()(replay)
app.command("import")(load)
app.command()(dump)
app.command(context_settings=PASSED_ON)(train)
app.command("run", context_settings=PASSED_ON)(run_wheel)
app.command()(versions)
app.command()(register)
app.command()(shadow)
app.command()(promote)
app.command()(rollback)
