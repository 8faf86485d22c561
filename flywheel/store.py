"""Opens the journal that the settings describe, and keeps it swept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from flywheel.background import ended
from flywheel.journal import Journal, JournalOptions, JournalUnavailable
from flywheel.redis.journal import RedisJournal
from flywheel.sqlite.journal import SqliteJournal

log = structlog.get_logger(__name__)

_NOTHING_DUE_S: Final = 60.0
_MORE_IS_DUE_S: Final = 0.1
"""Between two steps, so that retention never takes the writer for itself."""


@asynccontextmanager
async def open_journal(
    folder: Path,
    options: JournalOptions | None = None,
    *,
    redis_url: str | None = None,
    patient: bool = False,
) -> AsyncIterator[Journal]:
    """The journal, with retention running behind it.

    folder: of the SQLite file, or of the spool when there is a Redis. Raises
    JournalUnavailable if it cannot be written; patient: then each write tries again instead.
    A Redis that is away is no error.
    """
    journal: Journal
    if redis_url is None:
        journal = SqliteJournal(folder / "journal.sqlite", options, patient=patient)
    else:
        journal = RedisJournal(redis_url, options, spool=folder / "spool.sqlite", patient=patient)
    async with journal:
        sweeper = asyncio.create_task(_sweep_for_ever(journal))
        try:
            yield journal
        finally:
            await ended(sweeper)


async def _sweep_for_ever(journal: Journal) -> None:
    while True:
        removed = 0
        try:
            removed = await journal.sweep()
        except JournalUnavailable as error:
            log.warning("retention_waits", error=str(error))
        await asyncio.sleep(_MORE_IS_DUE_S if removed else _NOTHING_DUE_S)
