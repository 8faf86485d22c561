"""What waits on the local disk while Redis is away, in the order in which it came."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final, Self

import orjson

from flywheel.journal import JournalUnavailable
from flywheel.opinions import Feedback
from flywheel.rows import Row
from flywheel.sqlite.database import Database, Migration

_MIGRATIONS: Final = (
    Migration(
        "spool",
        """
        CREATE TABLE spool (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            key_id TEXT NOT NULL,
            conversation TEXT,
            turn_id TEXT,
            body TEXT NOT NULL,
            content TEXT
        );
        CREATE INDEX spool_by_conversation ON spool (conversation, key_id);
        CREATE TABLE unreadable (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL)
        """,
    ),
)
_INSERT: Final = (
    "INSERT INTO spool (kind, key_id, conversation, turn_id, body, content)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Erasure:
    """A conversation to be erased, and when that was asked."""

    conversation: str
    key_id: str
    time: float


class _Kind(StrEnum):
    RECORD = "record"
    FEEDBACK = "feedback"
    ERASURE = "erasure"


Spooled = Row | Feedback | Erasure


class Spool:
    """A first-in, first-out queue in a SQLite file. Durable once `put` returns.

    depth: how many writes wait. unreadable: how many were put aside as corrupt.
    patient: entering does not need the file to be writable; what an earlier process left in it
    is counted once it can be read.
    """

    def __init__(self, path: Path, *, patient: bool = False) -> None:
        self.depth = 0
        self.unreadable = 0
        self._patient = patient
        self._counted = False
        self._counting = asyncio.Lock()
        self._db = Database(path, _MIGRATIONS, patient=patient)

    @property
    def failures(self) -> int:
        return self._db.failures

    async def __aenter__(self) -> Self:
        await self._db.__aenter__()
        try:
            await self.count()
        except JournalUnavailable:
            if not self._patient:
                raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._db.__aexit__(*exc)

    async def count(self) -> None:
        """Find out, once, what an earlier process left. Raises JournalUnavailable."""
        if self._counted:
            return
        async with self._counting:
            if not self._counted:
                counts = await self._db.write(_counts)  # the writer makes the tables
                self.depth, self.unreadable = counts
                self._counted = True

    async def put(self, write: Spooled) -> None:
        """Raises JournalUnavailable."""
        await self.count()
        self.depth += 1  # at once: what comes next must queue up behind it
        values = _values(write)
        try:
            await self._db.write(lambda db: db.execute(_INSERT, values))
        except Exception:
            self.depth -= 1
            raise

    async def head(self, limit: int) -> Sequence[tuple[int, Spooled]]:
        """The oldest writes with their places. Corrupt ones are put aside."""
        rows = await self._db.read(
            lambda db: db.execute("SELECT * FROM spool ORDER BY seq LIMIT ?", (limit,)).fetchall()
        )
        good = list[tuple[int, Spooled]]()
        for row in rows:
            try:
                good.append((row["seq"], _parse(row["kind"], row["body"], row["content"])))
            except (ValueError, TypeError):
                await self._put_aside(row["seq"])
        return good

    async def done(self, seqs: Sequence[int]) -> None:
        """Forget writes that Redis has."""
        rows = [(seq,) for seq in seqs]
        delete = "DELETE FROM spool WHERE seq = ?"
        # An erasure may have removed some of them meanwhile, and counted them.
        removed = await self._db.write(lambda db: db.executemany(delete, rows).rowcount)
        self.depth -= max(removed, 0)  # -1 for no rows

    async def erase(self, conversation: str, key_id: str) -> int:
        """Strip what waits of a conversation; the bare turns still count when they arrive."""
        if self.depth == 0:
            return 0
        stripped, removed = await self._db.write(lambda db: _strip(db, conversation, key_id))
        self.depth -= removed
        await self._db.alone(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return stripped

    async def _put_aside(self, seq: int) -> None:
        def move(db: Connection) -> None:
            db.execute(
                "INSERT INTO unreadable SELECT seq, kind, body FROM spool WHERE seq = ?", (seq,)
            )
            db.execute("DELETE FROM spool WHERE seq = ?", (seq,))

        await self._db.write(move)
        self.depth -= 1
        self.unreadable += 1


def _values(write: Spooled) -> tuple[str | None, ...]:
    if isinstance(write, Row):
        body = asdict(write)
        content = body.pop("content")
        plain = orjson.dumps(body).decode()
        return (
            _Kind.RECORD,
            write.key_id,
            write.conversation,
            write.turn_id,
            plain,
            content,
        )
    if isinstance(write, Feedback):
        return _Kind.FEEDBACK, write.key_id, None, write.turn_id, write.model_dump_json(), None
    plain = orjson.dumps(asdict(write)).decode()
    return _Kind.ERASURE, write.key_id, write.conversation, None, plain, None


def _parse(kind: str, body: str, content: str | None) -> Spooled:
    """Raises ValueError or TypeError if it is not what was written."""
    raw: Any = orjson.loads(body)
    match _Kind(kind):
        case _Kind.RECORD:
            return Row(content=content, **raw)
        case _Kind.FEEDBACK:
            return Feedback.model_validate(raw)
        case _Kind.ERASURE:
            return Erasure(**raw)


def _strip(db: Connection, conversation: str, key_id: str) -> tuple[int, int]:
    """How many turns were stripped, and how much feedback was removed."""
    mine = (conversation, key_id)
    turns = "SELECT turn_id FROM spool WHERE conversation = ? AND key_id = ? AND turn_id NOT NULL"
    removed = db.execute(
        f"DELETE FROM spool WHERE kind = 'feedback' AND turn_id IN ({turns})", mine
    ).rowcount
    stripped = db.execute(
        "UPDATE spool SET content = NULL WHERE kind = 'record' AND conversation = ? AND key_id = ?",
        mine,
    ).rowcount
    return stripped, removed


def _counts(db: Connection) -> tuple[int, int]:
    depth = db.execute("SELECT count(*) FROM spool").fetchone()[0]
    return depth, db.execute("SELECT count(*) FROM unreadable").fetchone()[0]
