"""What is peculiar to a journal in Redis: Redis goes away, comes back, and serves many."""

import asyncio
import signal
from pathlib import Path
from time import monotonic

import pytest
from redis.asyncio import Redis

from flywheel.journal import JournalUnavailable, NotYours, UnknownTurn
from flywheel.redis.journal import RedisJournal
from guard.types import Flag
from tests.fakes.disk import full_disk
from tests.fakes.turns import SECRET, flagged_record, turn_record
from tests.integration.memory.stores import drained, ids, report
from tests.redis_server import RedisServer


async def test_turns_wait_for_redis_and_arrive_in_order(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("before"))
        redis_server.kill()
        for i in range(5):
            await journal.record(turn_record(f"away-{i}"))
        assert (await journal.counters()).spooled == 5
        redis_server.start()
        await journal.record(turn_record("after"))
        await drained(journal)
        assert await ids(journal) == ["before", *(f"away-{i}" for i in range(5)), "after"]
        assert (await journal.counters()).dropped == 0


async def test_what_waits_drains_while_turns_go_on(redis_server: RedisServer, spool: Path) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        over, recorded = asyncio.Event(), list[str]()

        async def turns(writer: int) -> None:
            while not over.is_set():
                turn_id = f"{writer}-{len(recorded)}"
                await journal.record(turn_record(turn_id))
                recorded.append(turn_id)
                await asyncio.sleep(0.02)

        redis_server.kill()
        writers = [asyncio.create_task(turns(writer)) for writer in range(20)]
        while len(recorded) < 1000:
            await asyncio.sleep(0.05)
        waited = len(recorded)
        redis_server.start()
        async with asyncio.timeout(60):
            while await journal.last_seq() < waited:
                await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*writers)
        await drained(journal)
        assert sorted(await ids(journal, page=500)) == sorted(recorded)


async def test_redis_that_forgot_the_scripts_learns_them_again(
    redis_server: RedisServer, spool: Path
) -> None:
    async with (
        RedisJournal(redis_server.url, spool=spool) as journal,
        Redis.from_url(redis_server.url) as raw,
    ):
        await journal.record(turn_record("before"))
        await raw.script_flush()
        await journal.record(turn_record("after"))
        assert (await journal.counters()).spooled == 0
        assert await ids(journal) == ["before", "after"]


async def test_a_restart_of_redis_goes_unnoticed_by_who_reads_later(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record())
        await asyncio.gather(*(journal.turn("turn-1") for _ in range(8)))
        redis_server.kill()
        redis_server.start()
        await asyncio.gather(*(journal.turn("turn-1") for _ in range(8)))
        assert (await journal.counters()).failures == 0


async def test_without_a_spool_a_lost_redis_is_an_error(redis_server: RedisServer) -> None:
    async with RedisJournal(redis_server.url, spool=None) as journal:
        await journal.record(turn_record("before"))
        redis_server.kill()
        with pytest.raises(JournalUnavailable):
            await journal.record(turn_record("lost"))
        assert (await journal.counters()).dropped == 1


async def test_a_journal_opened_for_reading_changes_nothing(
    redis_server: RedisServer, spool: Path
) -> None:
    async with (
        RedisJournal(redis_server.url, spool=spool) as journal,
        Redis.from_url(redis_server.url) as raw,
    ):
        await journal.record(turn_record("good"))
        await journal.record(turn_record("bad"))
        await raw.hset("{safechat}:turn:bad", "body", "not json")
        async with RedisJournal(redis_server.url, spool=None, read_only=True) as reading:
            assert await ids(reading) == ["good"]
            for write in (reading.record(turn_record("new")), reading.set_reviewed("good")):
                with pytest.raises(JournalUnavailable, match="reading"):
                    await write
            assert (await reading.counters()).quarantined == 0


async def test_a_journal_opens_without_redis(redis_server: RedisServer, spool: Path) -> None:
    redis_server.kill()
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record())
        assert not await journal.feedback(report("turn-1"))
    redis_server.start()
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        assert (await journal.counters()).spooled <= 2
        await drained(journal)
        entry = await journal.turn("turn-1", "ada")
        assert entry.record.flags == {Flag.USER_REPORT}
        assert entry.feedback == (report("turn-1"),)


async def test_without_redis_nothing_else_is_promised(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(flagged_record())
        assert (await journal.counters()).pending == 1
        redis_server.kill()
        with pytest.raises(JournalUnavailable):
            await journal.turn("turn-1")
        with pytest.raises(JournalUnavailable):
            await journal.queue()
        with pytest.raises(JournalUnavailable):
            await journal.claim("item-1", "r1", 60)
        counters = await journal.counters()
        assert counters.pending == 1, "the last known number"
        assert counters.failures >= 3


async def test_a_conversation_is_erased_while_redis_is_away(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("stored"))
        redis_server.kill()
        await journal.record(turn_record("waiting"))
        await journal.feedback(report("waiting", text=f"Not {SECRET}!"))
        assert SECRET in on_disk(spool)
        assert await journal.erase("garden", "ada") == 1, "of the other one nobody knows yet"
        assert SECRET not in on_disk(spool)
        redis_server.start()
        await drained(journal)
        assert await ids(journal) == []
        (stone,) = await journal.tombstones()
        assert stone.turn_ids == ("stored", "waiting")


def on_disk(spool: Path) -> str:
    files = spool.parent.glob("spool*")
    return "".join(file.read_bytes().decode(errors="replace") for file in files)


async def test_feedback_that_waited_is_refused_to_another_key(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record())
        redis_server.kill()
        await journal.feedback(report("turn-1", key_id="bob"))
        redis_server.start()
        await drained(journal)
        assert (await journal.turn("turn-1")).feedback == ()
        with pytest.raises(NotYours):
            await journal.feedback(report("turn-1", key_id="bob"))


async def test_a_corrupt_turn_is_put_aside(redis_server: RedisServer, spool: Path) -> None:
    async with (
        RedisJournal(redis_server.url, spool=spool) as journal,
        Redis.from_url(redis_server.url) as raw,
    ):
        for name in ("a", "b", "c"):
            await journal.record(flagged_record(name))
        await raw.hset("{safechat}:turn:a", "body", "not json")
        await raw.hset("{safechat}:turn:b", "body", b"\xff\xfe")
        assert await ids(journal) == ["c"]
        assert [entry.record.turn_id for entry in await journal.queue()] == ["c"]
        assert (await journal.counters()).quarantined == 2


async def test_a_redis_that_hangs_does_not_hold_turns_up(
    redis_server: RedisServer, spool: Path
) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("before"))
        redis_server.send(signal.SIGSTOP)
        started = monotonic()
        await journal.record(turn_record("during"))
        await journal.record(turn_record("behind"))
        assert monotonic() - started < 10
        redis_server.send(signal.SIGCONT)
        await drained(journal)
        assert sorted(await ids(journal)) == ["before", "behind", "during"]


async def test_without_redis_and_disk_a_turn_is_lost_and_counted(
    redis_server: RedisServer, spool: Path
) -> None:
    redis_server.kill()
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        await journal.record(turn_record("before"))
        with full_disk(), pytest.raises(JournalUnavailable):
            await journal.record(turn_record("lost"))
        assert (await journal.counters()).dropped == 1
        redis_server.start()
        await drained(journal)
        assert await ids(journal) == ["before"]


async def test_gateways_share_turns_queue_and_claims(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with (
        RedisJournal(redis_server.url, spool=tmp_path / "one.sqlite") as one,
        RedisJournal(redis_server.url, spool=tmp_path / "two.sqlite") as two,
    ):
        await asyncio.gather(
            *(
                gateway.record(flagged_record(f"turn-{i}"))
                for i in range(20)
                for gateway in (one, two)
            )
        )
        assert sorted(await ids(one)) == sorted(f"turn-{i}" for i in range(20))
        assert await ids(one) == await ids(two)
        assert await two.feedback(report("turn-3"))
        assert (await one.queue(limit=1))[0].record.turn_id == "turn-3"
        claims = [gateway.claim("item", f"r{i}", 60) for i in range(10) for gateway in (one, two)]
        held = [claim for claim in await asyncio.gather(*claims) if claim is not None]
        assert len({claim.rater_id for claim in held}) == 1
        await one.erase("garden", "ada")
        with pytest.raises(UnknownTurn):
            await two.turn("turn-3")


async def test_closing_waits_for_what_was_asked(redis_server: RedisServer, spool: Path) -> None:
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        tasks = [asyncio.create_task(journal.record(turn_record(f"t-{i}"))) for i in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with RedisJournal(redis_server.url, spool=spool) as journal:
        assert len(await ids(journal)) == 20


async def test_nothing_is_left_of_what_was_erased(redis_server: RedisServer, spool: Path) -> None:
    async with (
        RedisJournal(redis_server.url, spool=spool) as journal,
        Redis.from_url(redis_server.url, decode_responses=True) as raw,
    ):
        for i in range(5):
            await journal.record(flagged_record(f"turn-{i}"))
            await journal.feedback(report(f"turn-{i}"))
        await journal.set_reviewed("turn-2")
        await journal.erase("garden", "ada")
        assert await raw.get("{safechat}:bytes") == "0"
        left = {str(key).removeprefix("{safechat}:") for key in await raw.keys("*")}
    stone = 'stone:["ada","garden"]'
    assert left == {"seq", "turns", "tombstones", "erased", "outcomes", "bytes", stone}
