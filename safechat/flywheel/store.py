"""`safechat flywheel status`, `import` and `dump`: the journal itself."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from safechat.flywheel.common import (
    AsJson,
    JournalFile,
    note,
    opened_journal,
    progress_bar,
    run,
)
from server.cli import explained


def status(journal: JournalFile = None, as_json: AsJson = False) -> None:
    """Count what the journal holds: turns by outcome, and what waits for review.

    \b
      safechat flywheel status
      safechat flywheel status --json
    """  # noqa: D301

    async def counted() -> dict[str, Any]:
        async with opened_journal(journal) as opened:
            return asdict(await opened.counters())

    counters = run(counted())
    if as_json:
        typer.echo(json.dumps(counters))
        return
    outcomes = counters.pop("outcomes")
    typer.echo(f"{sum(outcomes.values()):>12,}  turns")
    for name, number in sorted(outcomes.items()):
        typer.echo(f"{number:>12,}    {name}")
    for name, number in counters.items():
        typer.echo(f"{number:>12,.0f}  {name}")


def load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Turn records as JSON lines.")],
    quarantine: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where unreadable lines go; default: beside FILE."),
    ] = None,
    journal: JournalFile = None,
    as_json: AsJson = False,
) -> None:
    """Record the turns of a file in the journal. A second time changes nothing.

    A line is a turn record (docs/schema), or one of `safechat flywheel dump`, which has its
    feedback and ratings too. Records of older versions are upgraded. Lines that are cut short,
    corrupt, or of a newer version are counted and put aside, and the rest goes on. Conversations
    that were erased stay erased.

    \b
      safechat flywheel import turns.jsonl
    """  # noqa: D301
    from flywheel.transfer import Imported
    from flywheel.transfer import load as read

    with explained():
        aside = quarantine or file.with_name(f"{file.name}.quarantine")
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")

        async def recorded() -> Imported:
            async with opened_journal(journal, make=True, read_only=False) as opened:
                with progress_bar() as progress:
                    task = progress.add_task("import", total=None)
                    return await read(
                        opened,
                        file,
                        aside,
                        progress=lambda seen: progress.update(task, completed=seen.turns),
                    )

        seen = run(recorded())
    if seen.corrupt or seen.newer:
        note(f"{seen.corrupt + seen.newer} unreadable lines are in {aside}")
    if as_json:
        typer.echo(json.dumps(asdict(seen)))
    else:
        for name, number in asdict(seen).items():
            typer.echo(f"{number:>12,}  {name}")


def dump(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, as JSON lines.")],
    journal: JournalFile = None,
) -> None:
    """Write the whole journal into a file that `safechat flywheel import` reads.

    \b
      safechat flywheel dump turns.jsonl
    """  # noqa: D301
    from flywheel.transfer import dump as lines

    async def written(task: TaskID, progress: Progress) -> None:
        async with opened_journal(journal) as opened:
            with file.open("wb") as out:
                async for line in lines(opened):
                    out.write(line)
                    progress.advance(task)

    with explained(), progress_bar() as progress:
        run(written(progress.add_task("dump", total=None), progress))
