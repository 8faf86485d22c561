"""What Redis refuses for ever is put aside, and holds up nothing; in trouble everything waits."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from structlog.testing import capture_logs

from flywheel.journal import Journal
from flywheel.opinions import Feedback, FeedbackKind
from flywheel.records import Outcome, RecordedMessage, TurnRecord
from flywheel.redis.journal import RedisJournal
from tests.fakes.turns import NOON, SECRET, flagged_record, turn_record
from tests.integration.memory.stores import drained, ids
from tests.redis_server import RedisServer

SHED = "{safechat}:conversation:shed"
MEGABYTE = 1 << 20


@pytest.fixture
async def raw(redis_server: RedisServer) -> AsyncIterator[Any]:
    again = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
    async with Redis.from_url(redis_server.url, decode_responses=True, retry=again) as raw:
        yield raw


def long_record(turn_id: str, size: int) -> TurnRecord:
    return turn_record(
        turn_id, messages=(RecordedMessage(role="user", text="long " * (size // 5)),)
    )


async def refused(journal: Journal) -> int:
    return (await journal.counters()).refused


async def test_a_refused_write_lets_the_others_pass_and_is_sent_again_after_a_restart(
    redis_server: RedisServer, raw: Any, spool: Path
) -> None:
    await raw.set(SHED, "somebody else's")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        redis_server.kill()
        for name, conversation in (("a", "garden"), ("b", "shed"), ("c", "garden"), ("d", "shed")):
            await journal.record(turn_record(name, conversation_id=conversation))
        with capture_logs() as logs:
            redis_server.start()
            await drained(journal)
        assert await ids(journal) == ["a", "c"]
        assert await refused(journal) == 2
        assert (await journal.counters()).dropped == 0
    said = [line for line in logs if line["event"] == "write_refused"]
    assert [(line["turn_id"], line["log_level"]) for line in said] == [
        ("b", "error"),
        ("d", "error"),
    ]
    assert "WRONGTYPE" in said[0]["error"]
    assert "sent again" in said[0]["do"]
    await raw.delete(SHED)
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await drained(journal)
        assert sorted(await ids(journal)) == ["a", "b", "c", "d"]
        assert await refused(journal) == 0
        assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 4}


async def test_what_was_refused_is_tried_again_now_and_then(
    redis_server: RedisServer, raw: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.redis.drain._ANEW_S", 0.3)
    await raw.set(SHED, "somebody else's")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record(conversation_id="shed"))
        await drained(journal)
        await raw.delete(SHED)
        async with asyncio.timeout(10):
            while not await ids(journal):
                await asyncio.sleep(0.05)
        await drained(journal)
        assert await refused(journal) == 0


async def test_a_turn_refused_while_redis_is_up_is_kept_and_served(
    redis_server: RedisServer, raw: Any, spool: Path
) -> None:
    await raw.set(SHED, "somebody else's")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("refused", conversation_id="shed"))
        await drained(journal)
        await journal.record(turn_record("next"))
        assert await ids(journal) == ["next"]
        assert await refused(journal) == 1


@pytest.mark.parametrize("index", ["turn:turn-1", "times", "conversation:garden", "queue"])
async def test_half_a_turn_is_never_stored(
    redis_server: RedisServer, raw: Any, spool: Path, index: str
) -> None:
    """Whatever step of storing fails, the next attempt must not find the turn known."""
    said = Feedback.of("turn-1", "ada", FeedbackKind.REPORT, NOON + 5)
    await raw.set(f"{{safechat}}:{index}", "somebody else's")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(flagged_record())
        await drained(journal)
        assert await ids(journal) == []
        assert await refused(journal) == 1
        assert await raw.get("{safechat}:bytes") == "0"
    await raw.delete(f"{{safechat}}:{index}")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await drained(journal)
        await journal.feedback(said)
        [entry] = await journal.queue()
        assert entry.feedback == (said,)
        assert await ids(journal) == ["turn-1"]
        assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 1}


async def test_a_turn_too_large_for_redis_holds_up_no_other(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        redis_server.kill()
        for name, size in (("a", 10), ("huge", 24 * MEGABYTE), ("b", 10)):
            await journal.record(long_record(name, size))
        redis_server.start(maxmemory=16 * MEGABYTE)
        await drained(journal)
        assert await ids(journal) == ["a", "b"]
        assert await refused(journal) == 1


async def test_a_turn_that_breaks_its_connection_holds_up_no_other(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        redis_server.kill()
        for number in range(9):
            size = 4 * MEGABYTE if number == 5 else 10
            await journal.record(long_record(f"turn-{number}", size))
        redis_server.start(**{"proto-max-bulk-len": MEGABYTE})
        await drained(journal)
        assert await ids(journal) == [f"turn-{number}" for number in range(9) if number != 5]
        assert await refused(journal) == 1


@pytest.mark.parametrize(
    ("setting", "trouble", "good"),
    [
        ("maxmemory", "1", "0"),
        ("min-replicas-to-write", "1", "0"),
        ("replicaof", "127.0.0.1 1", "no one"),
    ],
    ids=["out of memory", "too few replicas", "read-only"],
)
async def test_while_redis_takes_no_writes_all_wait_in_order(
    redis_server: RedisServer, raw: Any, spool: Path, setting: str, trouble: str, good: str
) -> None:
    async def be(value: str) -> None:
        if setting == "replicaof":
            await raw.execute_command("REPLICAOF", *value.split())
        else:
            await raw.config_set(setting, value)

    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("before"))
        await be(trouble)
        for number in range(20):
            await journal.record(turn_record(f"turn-{number}"))
        await asyncio.sleep(2)
        counters = await journal.counters()
        assert (counters.spooled, counters.refused) == (20, 0)
        await be(good)
        await drained(journal)
        assert await ids(journal) == ["before", *(f"turn-{number}" for number in range(20))]
        assert await refused(journal) == 0


async def test_while_redis_loads_its_data_all_wait_in_order(
    redis_server: RedisServer, raw: Any, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        for number in range(40):
            await raw.set(f"another's {number}", "x")
        redis_server.kill()
        starting = asyncio.create_task(
            asyncio.to_thread(redis_server.start, **{"key-load-delay": 50_000})
        )
        for number in range(20):
            await journal.record(turn_record(f"turn-{number}"))
        while not starting.done():
            assert await refused(journal) == 0
            await asyncio.sleep(0.1)
        await starting
        await drained(journal)
        assert await ids(journal) == [f"turn-{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("record", "{"),
        ("record", "[]"),
        ("record", '{"turn_id": 5}'),
        ("feedback", "{}"),
        ("erasure", '{"conversation": "shed"}'),
        ("unheard of", "{}"),
    ],
)
async def test_a_corrupt_row_of_the_spool_holds_up_no_other(
    redis_server: RedisServer, spool: Path, kind: str, body: str
) -> None:
    redis_server.kill()
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        for name in ("a", "b", "c"):
            await journal.record(turn_record(name))
    with closing(sqlite3.connect(spool)) as db, db:
        db.execute("UPDATE spool SET kind = ?, body = ? WHERE turn_id = 'b'", (kind, body))
    redis_server.start()
    with capture_logs() as logs:
        async with RedisJournal(redis_server.url, spool=spool) as journal:
            await drained(journal)
            assert await ids(journal) == ["a", "c"]
            assert (await journal.counters()).quarantined == 1
    [said] = [line for line in logs if line["event"] == "write_unreadable"]
    assert said["turn_id"] == "b"


async def test_what_was_put_aside_is_erased_too(
    redis_server: RedisServer, raw: Any, spool: Path
) -> None:
    await raw.set(SHED, "somebody else's")
    said = Feedback.of("turn-1", "ada", FeedbackKind.REPORT, NOON + 5, f"Not {SECRET}!")
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        redis_server.kill()
        await journal.record(turn_record(conversation_id="shed"))
        await journal.feedback(said)
        redis_server.start()
        await drained(journal)
        assert await refused(journal) == 1
        assert await journal.erase("shed", "ada") == 1
        await drained(journal)
    kept = b"".join(file.read_bytes() for file in spool.parent.iterdir())
    assert SECRET.encode() not in kept
