"""A million turns, and many turns at once: what the journal costs then."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import psutil
import pytest
from redis.asyncio import Redis

from flywheel.journal import Entry, Journal, JournalOptions, entries
from flywheel.redis.commands import Commands
from flywheel.redis.journal import RedisJournal
from flywheel.rows import Row, encode
from flywheel.sqlite.journal import SqliteJournal
from tests.fakes.turns import NOON, flagged_record, turn_record
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.verify, pytest.mark.timeout(3600)]

TURNS: Final = 1_000_000
FLAGGED_EVERY: Final = 20
ALLOWED_S: Final = 0.2
ALLOWED_GROWTH: Final = 64_000_000
ALLOWED_WAIT_S: Final = 0.002
"""Median of what a turn may wait for its record."""

Opened = Callable[[], AbstractAsyncContextManager[Journal]]


def rows() -> Iterator[tuple[int, Row]]:
    """Rows of a million turns, of which every twentieth is flagged and has its content."""
    options = JournalOptions(grace_s=0)
    plain, flagged = (encode(make("~"), options) for make in (turn_record, flagged_record))
    for seq in range(1, TURNS + 1):
        row = flagged if seq % FLAGGED_EVERY == 0 else plain
        yield (
            seq,
            replace(
                row,
                turn_id=f"turn-{seq}",
                conversation=f"conversation-{seq // 5}",
                time=NOON + seq,
                level=seq * 7919 % 1024,
                body=row.body.replace("~", f"turn-{seq}"),
            ),
        )


def fill_sqlite(path: Path) -> None:
    columns = ("turn_id", "key_id", "conversation", "time", "flags", "level", "body")
    insert = f"INSERT INTO turns (seq, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.executemany(insert, ((seq, *attrgetter(*columns)(row)) for seq, row in rows()))
        db.executemany(
            "INSERT INTO contents VALUES (?, ?)",
            ((seq, row.content) for seq, row in rows() if row.content is not None),
        )


async def settle(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        await journal.erase("nothing", "nobody")  # writes out what is in the log


async def fill_redis(server: RedisServer) -> None:
    async with Redis.from_url(server.url) as redis:
        await redis.config_set("appendonly", "no")
        commands = Commands(redis, "{safechat}")
        turns = (row for _, row in rows())
        while batch := list(islice(turns, 500)):
            await commands.send(batch)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def big(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("big")
    if request.param == "sqlite":
        path = folder / "journal.sqlite"
        asyncio.run(settle(path))
        fill_sqlite(path)
        asyncio.run(settle(path))
        yield lambda: SqliteJournal(path)
        return
    with RedisServer(folder) as server:
        asyncio.run(fill_redis(server))
        yield lambda: RedisJournal(server.url, spool=None)


async def timed(what: str, answer: Awaitable[object]) -> float:
    seconds = await seconds_of(answer)
    print(f"{what}: {seconds * 1000:.1f} ms")
    return seconds


async def test_pages_of_a_million_turns_come_at_once(big: Opened) -> None:
    async with big() as journal:
        deep = (await journal.queue(limit=1))[0].rank + (900 << 42)
        seconds = [
            await timed("first page of the queue", journal.queue(limit=50)),
            await timed("a page deep in the queue", journal.queue(deep, 50)),
            await timed("first page of the export", journal.page(limit=100, flagged=True)),
            await timed("a page deep in the export", journal.page(900_000, 100, flagged=True)),
            await timed("a page of all turns", journal.page(500_000, 100)),
            await timed("one turn", journal.turn("turn-777777", "ada")),
            await timed("recording", journal.record(flagged_record("one-more"))),
            await timed("erasing", journal.erase("conversation-1000", "ada")),
            await timed("a step of retention", journal.sweep()),
        ]
        await timed("counters", journal.counters())
    assert max(seconds) < ALLOWED_S


async def test_an_export_streams_in_flat_memory(big: Opened) -> None:
    process = psutil.Process()
    async with big() as journal:
        sizes, count = list[int](), 0
        started = perf_counter()
        async for _ in entries(journal, flagged=True):
            if count % 5000 == 1000:
                sizes.append(process.memory_info().rss)
            count += 1
        seconds = perf_counter() - started
    growth = sizes[-1] - sizes[0]
    print(f"{count} flagged turns in {seconds:.1f} s, memory grew by {growth / 1e6:.1f} MB")
    assert count >= TURNS // FLAGGED_EVERY - 2
    assert growth < ALLOWED_GROWTH


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_recording_adds_little_under_load(tmp_path: Path, kind: str) -> None:
    """64 turns in flight, about 200 a second: what each waits for its journal.

    A bare append that a thread makes durable is timed in between: it tells a slow disk from
    slow code.
    """
    async with AsyncExitStack() as stack:
        journal: Journal = SqliteJournal(tmp_path / "journal.sqlite")
        if kind == "redis":
            redis = stack.enter_context(RedisServer(tmp_path / "redis"))
            journal = RedisJournal(redis.url, spool=tmp_path / "spool.sqlite")
        await stack.enter_async_context(journal)
        log = stack.enter_context((tmp_path / "bare").open("ab", buffering=0))
        waits, bare = list[float](), list[float]()

        def append() -> None:
            log.write(b"a line of a log that must last" * 40)
            os.fsync(log.fileno())

        async def turns(writer: int) -> None:
            await asyncio.sleep(writer * 0.005)
            for number in range(20):
                record = turn_record(f"turn-{writer}-{number}")
                waits.append(await seconds_of(journal.record(record)))
                await asyncio.sleep(0.16)
                bare.append(await seconds_of(asyncio.to_thread(append)))
                await asyncio.sleep(0.16)

        await asyncio.gather(*map(turns, range(64)))
        assert len(await _all(journal)) == len(waits) == 1280
    waits.sort()
    said = (
        f"{kind}: median {median(waits) * 1000:.2f} ms, 99 %: {waits[-13] * 1000:.2f} ms;"
        f" a bare fsync of this disk: {median(bare) * 1000:.2f} ms"
    )
    print(said)
    assert median(waits) <= ALLOWED_WAIT_S, said


async def seconds_of(work: Awaitable[object]) -> float:
    started = perf_counter()
    await work
    return perf_counter() - started


async def _all(journal: Journal) -> list[Entry]:
    return [entry async for entry in entries(journal)]
