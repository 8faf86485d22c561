"""What the flywheel's commands share: the journal they work on, and how they show their work."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import Progress

from flywheel.journal import Journal, JournalOptions, Keep
from flywheel.redis.journal import RedisJournal
from flywheel.sqlite.journal import SqliteJournal
from server.cli import err, explained
from server.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JournalFile = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="A journal file; default: the gateway's."),
]
T = TypeVar("T")


def opened_journal(
    path: Path | None, *, make: bool = False, read_only: bool = True
) -> AbstractAsyncContextManager[Journal]:
    """The journal in a file, or the one that the settings name, without its retention.

    A file of one's own keeps all that is put into it; the gateway's journal keeps what its
    settings say. Raises FileNotFoundError where there is none, unless it is to be made.
    """
    options, redis = JournalOptions(keep=Keep.ALL), None
    if path is None:
        settings = load_settings()
        options, redis = settings.journal.options(), settings.redis_url
        path = settings.journal.folder / "journal.sqlite"
    if redis is not None:
        # The gateway's spool is the gateway's: a command has none, and fails without Redis.
        url = redis.get_secret_value()
        return RedisJournal(url, options, spool=None, read_only=read_only)
    if not make and not path.is_file():
        raise FileNotFoundError(f"there is no journal {path}")
    return SqliteJournal(path, options, read_only=read_only)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; what the journal may answer instead is explained in one line."""
    with explained():
        return asyncio.run(work)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Progress on standard error, so that standard output stays clean."""
    with Progress(console=err, transient=True) as progress:
        yield progress


def note(text: str) -> None:
    """A line on standard error."""
    err.print(f"safechat: {text}", markup=False, highlight=False)
