"""Where pinned instructions last: Redis, for all gateways, or a SQLite file beside the journal."""

import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time
from typing import Final, Self

import orjson

from flywheel.journal import JournalUnavailable
from flywheel.sqlite.database import Database, Migration
from server.instructions import KEPT_S, InstructionsUnavailable
from server.redis_link import PREFIX, RedisAway, RedisLink

_USED_AGAIN_S: Final = 86400.0
"""How exactly the file knows when an instruction was last used."""

# KEYS: instruction. ARGV: system, at, lifetime in ms. An erasure stays as an empty one, so that
# a gateway that could not store an earlier one meanwhile does not bring it back.
_PUT: Final = """
local at = redis.call('HGET', KEYS[1], 'at')
if at and tonumber(at) > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], 'system', ARGV[1], 'at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""


class RedisInstructions:
    """A `Store` in Redis: one hash each, `system` and `at`, that expires."""

    def __init__(self, link: RedisLink, *, kept_s: float = KEPT_S) -> None:
        self._link = link
        self._kept_ms = int(kept_s * 1000)
        self._put = link.redis.register_script(_PUT)

    async def get(self, key_id: str, conversation_id: str) -> str | None:
        try:
            return await self._link.ask(partial(self._use, _key(key_id, conversation_id)))
        except RedisAway as away:
            raise InstructionsUnavailable from away

    async def put(self, key_id: str, conversation_id: str, system: str, at: float) -> None:
        keys = [_key(key_id, conversation_id)]
        args: list[str | float] = [system, at, self._kept_ms]
        try:
            await self._link.ask(partial(self._put, keys, args))
        except RedisAway as away:
            raise InstructionsUnavailable from away

    async def _use(self, key: str) -> str | None:
        async with self._link.redis.pipeline(transaction=False) as pipeline:
            pipeline.hget(key, "system")
            pipeline.pexpire(key, self._kept_ms)
            system, _ = await pipeline.execute()
        return system or None


def _key(key_id: str, conversation_id: str) -> str:
    """Unambiguous, whatever characters a key's id has."""
    return f"{PREFIX}:instruction:{orjson.dumps([key_id, conversation_id]).decode()}"


_MIGRATIONS: Final = (
    Migration(
        "instructions",
        """
        CREATE TABLE instructions (
            key_id TEXT NOT NULL,
            conversation TEXT NOT NULL,
            system TEXT NOT NULL,
            at REAL NOT NULL,
            used REAL NOT NULL,
            PRIMARY KEY (key_id, conversation)
        );
        CREATE INDEX instructions_by_use ON instructions (used)
        """,
    ),
)


class SqliteInstructions:
    """A `Store` in one SQLite file. Entering does not need the file to be writable."""

    def __init__(self, path: Path, *, kept_s: float = KEPT_S) -> None:
        self._db = Database(path, _MIGRATIONS, patient=True)
        self._kept_s = kept_s

    async def __aenter__(self) -> Self:
        await self._db.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._db.__aexit__(*exc)

    async def get(self, key_id: str, conversation_id: str) -> str | None:
        now = time()
        name = key_id, conversation_id
        try:
            row = await self._db.read(partial(_select, name=name))
            if row is None or now - row["used"] > self._kept_s:
                return None
        except JournalUnavailable as error:
            raise InstructionsUnavailable from error
        if now - row["used"] > _USED_AGAIN_S:
            with suppress(JournalUnavailable):  # it counts; the next use tells
                await self._db.write(partial(_used, name=name, now=now))
        return str(row["system"]) or None

    async def put(self, key_id: str, conversation_id: str, system: str, at: float) -> None:
        def write(db: sqlite3.Connection) -> None:
            now = time()
            db.execute("DELETE FROM instructions WHERE used < ?", (now - self._kept_s,))
            db.execute(_UPSERT, (key_id, conversation_id, system, at, now))

        try:
            await self._db.write(write)
            if not system:
                await self._db.alone(_empty_log)
        except JournalUnavailable as error:
            raise InstructionsUnavailable from error


_UPSERT: Final = """
    INSERT INTO instructions VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET system = excluded.system, at = excluded.at, used = excluded.used
    WHERE excluded.at >= at
"""


def _select(db: sqlite3.Connection, name: tuple[str, str]) -> sqlite3.Row | None:
    found = "SELECT system, used FROM instructions WHERE key_id = ? AND conversation = ?"
    row: sqlite3.Row | None = db.execute(found, name).fetchone()
    return row


def _used(db: sqlite3.Connection, name: tuple[str, str], now: float) -> None:
    again = "UPDATE instructions SET used = ? WHERE key_id = ? AND conversation = ?"
    db.execute(again, (now, *name))


def _empty_log(db: sqlite3.Connection) -> None:
    """What was overwritten is in the write-ahead log until then."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
