"""What waits on the local disk while Redis is away, in the order in which it came."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final, Self

import orjson
import structlog
from pydantic import TypeAdapter

from flywheel.journal import JournalUnavailable
from flywheel.opinions import Feedback
from flywheel.rows import Row
from flywheel.sqlite.database import Database, Migration

log = structlog.get_logger(__name__)

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
    Migration(
        "put aside in its place",
        # aside: 'refused' or 'unreadable'; NULL: it waits.
        """
        ALTER TABLE spool ADD COLUMN aside TEXT;
        CREATE INDEX spool_waiting ON spool (seq) WHERE aside IS NULL;
        CREATE INDEX spool_aside ON spool (aside) WHERE aside IS NOT NULL;
        INSERT INTO spool (seq, kind, key_id, body) SELECT seq, kind, '', body FROM unreadable;
        DROP TABLE unreadable
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


class _Aside(StrEnum):
    REFUSED = "refused"
    UNREADABLE = "unreadable"


class _Kind(StrEnum):
    RECORD = "record"
    FEEDBACK = "feedback"
    ERASURE = "erasure"


Spooled = Row | Feedback | Erasure
_ROW: Final = TypeAdapter(Row)
_ERASURE: Final = TypeAdapter(Erasure)


class Spool:
    """A first-in, first-out queue in a SQLite file. Durable once `put` returns.

    depth: how many writes wait. unreadable, refused: how many were put aside, because they are
    corrupt or because Redis does not take them. They keep their places, and wait once more after
    `retry` and when the spool is next opened.
    patient: entering does not need the file to be writable; what an earlier process left in it
    is counted once it can be read.
    """

    def __init__(self, path: Path, *, patient: bool = False) -> None:
        self.depth = 0
        self.unreadable = 0
        self.refused = 0
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
        """Find out, once, what an earlier process left; all of it waits again.

        Raises JournalUnavailable.
        """
        if self._counted:
            return
        async with self._counting:
            if not self._counted:
                self.depth = await self._db.write(_begin_anew)  # the writer makes the tables
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
            lambda db: db.execute(
                "SELECT * FROM spool WHERE aside IS NULL ORDER BY seq LIMIT ?", (limit,)
            ).fetchall()
        )
        good = list[tuple[int, Spooled]]()
        for row in rows:
            try:
                good.append((row["seq"], _parse(row["kind"], row["body"], row["content"])))
            except (ValueError, TypeError):
                await self._put_aside(row["seq"], _Aside.UNREADABLE)
                log.error(
                    "write_unreadable",
                    write=row["kind"],
                    turn_id=row["turn_id"],
                    do="look for damage of this gateway's disk; the row stays in its spool.sqlite",
                )
        return good

    async def done(self, seqs: Sequence[int]) -> None:
        """Forget writes that Redis has."""
        rows = [(seq,) for seq in seqs]
        delete = "DELETE FROM spool WHERE seq = ?"
        # An erasure may have removed some of them meanwhile, and counted them.
        removed = await self._db.write(lambda db: db.executemany(delete, rows).rowcount)
        self.depth -= max(removed, 0)  # -1 for no rows

    async def put_aside(self, seq: int) -> None:
        """Let what comes behind a write pass that Redis refuses. Raises JournalUnavailable."""
        await self._put_aside(seq, _Aside.REFUSED)

    async def retry(self) -> None:
        """Let what Redis refused wait once more. Raises JournalUnavailable."""
        if self.refused:
            self.depth += await self._db.write(_take_back)
            self.refused = 0

    async def erase(self, conversation: str, key_id: str) -> int:
        """Strip what waits of a conversation; the bare turns still count when they arrive."""
        if not (self.depth or self.refused or self.unreadable):
            return 0
        stripped, removed, aside = await self._db.write(
            lambda db: (*_strip(db, conversation, key_id), _count_aside(db))
        )
        self.depth -= removed
        self._show(aside)
        await self._db.alone(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return stripped

    async def _put_aside(self, seq: int, why: _Aside) -> None:
        def move(db: Connection) -> tuple[int, dict[str, int]]:
            update = "UPDATE spool SET aside = ? WHERE seq = ? AND aside IS NULL"
            return db.execute(update, (why, seq)).rowcount, _count_aside(db)

        moved, aside = await self._db.write(move)  # an erasure may have removed it
        self.depth -= moved
        self._show(aside)

    def _show(self, aside: Mapping[str, int]) -> None:
        self.refused = aside.get(_Aside.REFUSED, 0)
        self.unreadable = aside.get(_Aside.UNREADABLE, 0)


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
            return _ROW.validate_python({**raw, "content": content})
        case _Kind.FEEDBACK:
            return Feedback.model_validate(raw)
        case _Kind.ERASURE:
            return _ERASURE.validate_python(raw)


def _strip(db: Connection, conversation: str, key_id: str) -> tuple[int, int]:
    """How many turns were stripped, and how much feedback that waited was removed."""
    mine = (conversation, key_id)
    turns = "SELECT turn_id FROM spool WHERE conversation = ? AND key_id = ? AND turn_id NOT NULL"
    removed = db.execute(
        f"DELETE FROM spool WHERE kind = 'feedback' AND turn_id IN ({turns}) RETURNING aside", mine
    ).fetchall()
    stripped = db.execute(
        "UPDATE spool SET content = NULL WHERE kind = 'record' AND conversation = ? AND key_id = ?",
        mine,
    ).rowcount
    return stripped, sum(row["aside"] is None for row in removed)


def _begin_anew(db: Connection) -> int:
    """Let what was put aside wait once more: what kept it from Redis may be gone."""
    db.execute("UPDATE spool SET aside = NULL WHERE aside IS NOT NULL")
    waiting: int = db.execute("SELECT count(*) FROM spool").fetchone()[0]
    return waiting


def _take_back(db: Connection) -> int:
    update = "UPDATE spool SET aside = NULL WHERE aside = ?"
    return db.execute(update, (_Aside.REFUSED,)).rowcount


def _count_aside(db: Connection) -> dict[str, int]:
    return dict(
        db.execute(
            "SELECT aside, count(*) FROM spool WHERE aside IS NOT NULL GROUP BY aside"
        ).fetchall()
    )
