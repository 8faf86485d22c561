"""The journal of one gateway without other services: the default."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Self

from flywheel.journal import (
    Claim,
    Counters,
    Entry,
    JournalOptions,
    JournalUnavailable,
    NotYours,
    Tombstone,
    level_of,
)
from flywheel.opinions import Feedback, Rating
from flywheel.records import TurnRecord
from flywheel.rows import encode, redacted
from flywheel.sqlite import reads, retention, writes
from flywheel.sqlite.database import Database
from flywheel.sqlite.tables import MIGRATIONS


class SqliteJournal:
    """A `Journal` in one file. Several processes may read it while one gateway writes.

    read_only: change nothing in the file; whatever would raises JournalUnavailable.
    patient: entering does not need the file to be writable; later writes try again.
    """

    def __init__(
        self,
        path: Path,
        options: JournalOptions | None = None,
        *,
        read_only: bool = False,
        patient: bool = False,
    ) -> None:
        self._options = options or JournalOptions()
        self._db = Database(path, MIGRATIONS, read_only=read_only, patient=patient)
        self._read_only = read_only
        self._known = Counters()
        self._dropped = 0

    async def __aenter__(self) -> Self:
        await self._db.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._db.__aexit__(*exc)

    async def record(self, record: TurnRecord) -> None:
        options = self._options
        try:  # laid out in the writer's thread: redaction may take its time
            await self._db.write(lambda db: writes.record(db, encode(record, options)))
        except JournalUnavailable:
            self._dropped += 1
            raise

    async def feedback(self, feedback: Feedback) -> bool:
        options = self._options
        return await self._db.write(lambda db: writes.feedback(db, redacted(feedback, options)))

    async def turn(self, turn_id: str, key_id: str | None = None) -> Entry:
        return await self._db.read(lambda db: reads.turn(db, turn_id, key_id))

    async def page(
        self, after: int = 0, limit: int = 100, *, flagged: bool = False
    ) -> Sequence[Entry]:
        return await self._readable(after, lambda db, at: reads.page(db, at, limit, flagged))

    async def last_seq(self) -> int:
        return await self._db.read(reads.last_seq)

    async def latest(self, limit: int = 20) -> Sequence[Entry]:
        return (await self._db.read(lambda db: reads.latest(db, limit))).entries

    async def queue(self, after: int = -1, limit: int = 100) -> Sequence[Entry]:
        return await self._readable(after, lambda db, at: reads.queue(db, at, limit))

    async def prioritise(self, turn_id: str, priority: float) -> None:
        level = level_of(priority)
        await self._db.write(lambda db: writes.prioritise(db, turn_id, level))

    async def set_reviewed(self, turn_id: str, reviewed: bool = True) -> None:
        await self._db.write(lambda db: writes.set_reviewed(db, turn_id, reviewed))

    async def claim(self, item_id: str, rater_id: str, lease_s: float) -> Claim | None:
        now = self._options.clock()
        wanted = Claim(item_id, rater_id, now + lease_s)
        return await self._db.write(lambda db: writes.claim(db, wanted, now))

    async def release(self, item_id: str, rater_id: str) -> bool:
        now = self._options.clock()
        return await self._db.write(lambda db: writes.release(db, item_id, rater_id, now))

    async def claims(self, item_ids: Sequence[str]) -> Mapping[str, Claim]:
        now = self._options.clock()
        return await self._db.read(lambda db: reads.claims(db, item_ids, now))

    async def add_rating(self, rating: Rating) -> None:
        await self._db.write(lambda db: writes.rate(db, rating))

    async def withdraw_rating(self, rating: Rating) -> bool:
        return await self._db.write(lambda db: writes.withdraw(db, rating))

    async def ratings(self, item_id: str) -> Sequence[Rating]:
        return await self._db.read(lambda db: reads.ratings(db, item_id))

    async def erase(self, conversation_id: str, key_id: str) -> int:
        now = self._options.clock()
        erased = await self._db.write(lambda db: writes.erase(db, conversation_id, key_id, now))
        if erased is None:
            raise NotYours(conversation_id)
        await self._db.alone(_empty_log)
        return erased

    async def tombstones(self, after: float = 0.0) -> Sequence[Tombstone]:
        return await self._db.read(lambda db: reads.tombstones(db, after))

    async def sweep(self) -> int:
        now = self._options.clock()
        removed = await self._db.write(lambda db: retention.sweep(db, self._options, now))
        await self._db.alone(retention.give_back_space)
        return removed

    async def counters(self) -> Counters:
        """While the file cannot be read, the numbers that only it has are the last known ones."""
        now = self._options.clock()
        with suppress(JournalUnavailable):
            self._known = await self._db.read(lambda db: reads.counters(db, now))
        return replace(self._known, dropped=self._dropped, failures=self._db.failures)

    async def _readable(self, after: int, read: Callable[..., reads.Page]) -> Sequence[Entry]:
        """The next page that has something readable. What is corrupt is put aside."""
        while True:
            page = await self._db.read(partial(read, at=after))
            for turn_id, reason in () if self._read_only else page.corrupt.items():
                await self._db.write(partial(writes.quarantine, turn_id=turn_id, reason=reason))
            if page.entries or page.last is None:
                return page.entries
            after = page.last


def _empty_log(db: Connection) -> None:
    """Leave nothing of what was erased in the write-ahead log."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
