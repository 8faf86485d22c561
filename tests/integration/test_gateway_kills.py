"""`kill -9` of a whole gateway under 16 streams: what a client saw end is in the journal, once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flywheel.journal import Entry, entries
from flywheel.store import open_journal
from tests.crowd import Crowd, told
from tests.fakes.scripted_engine import ScriptedEngine
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer

STREAMS = 16
pytestmark = pytest.mark.timeout(300)
LONG = [pytest.mark.verify, pytest.mark.timeout(1800)]
ROUNDS = [3, pytest.param(20, marks=LONG)]


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(told) as engine:
        yield engine


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


async def reconciled(folder: Path, crowd: Crowd, redis_url: str | None = None) -> list[Entry]:
    """All turns, which the tally, the rows and what clients saw agree on."""
    async with open_journal(folder, redis_url=redis_url) as journal:
        async with asyncio.timeout(60):
            while (counters := await journal.counters()).spooled:
                await asyncio.sleep(0.05)
        found = [entry async for entry in entries(journal)]
    rows = {entry.record.turn_id: entry.record for entry in found}
    assert len(rows) == len(found), "a turn is there twice"
    assert Counter(record.outcome for record in rows.values()) == counters.outcomes
    assert crowd.seen.keys() <= rows.keys()
    assert len(rows) <= crowd.sent
    for turn_id, seen in crowd.seen.items():
        record = rows[turn_id]
        assert record.messages is not None
        assert sorted(record.flags) == seen.flags
        if seen.finish_reason == "stop":
            assert record.choices[0].reply == seen.text
    return found


async def serve_and_count(gateway: GatewayProcess, crowd: Crowd) -> None:
    """A gateway that was started again: its requests, outcomes and records agree."""
    await crowd.talk(4, turns=3)
    metrics = await gateway.metrics()
    assert metrics["safechat_requests_received_total"] == 12
    assert metrics["safechat_requests_total"] == 12
    assert metrics["safechat_journal_dropped"] == 0


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_killed_gateway_loses_no_turn(
    engine: ScriptedEngine, tmp_path: Path, rounds: int
) -> None:
    gateway = GatewayProcess(engine.url, tmp_path / "journal")
    crowd = Crowd(gateway.url, random.Random(3))
    for _ in range(rounds):
        await gateway.start()
        talking = asyncio.create_task(crowd.talk(STREAMS))
        await asyncio.sleep(crowd.chance.uniform(0.5, 2))
        gateway.kill()
        await talking
        await reconciled(tmp_path / "journal", crowd)
    assert crowd.seen
    assert crowd.broken
    async with gateway:
        before = len(await reconciled(tmp_path / "journal", crowd))
        await serve_and_count(gateway, crowd)
    assert len(await reconciled(tmp_path / "journal", crowd)) == before + 12


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_killed_gateway_and_a_killed_redis_lose_no_turn(
    engine: ScriptedEngine, redis: RedisServer, tmp_path: Path, rounds: int
) -> None:
    """Redis goes first in every second round: what waits on the gateway's disk is not lost."""
    folder = tmp_path / "journal"
    gateway = GatewayProcess(engine.url, folder, redis_url=redis.url)
    crowd = Crowd(gateway.url, random.Random(4))
    for number in range(rounds):
        await gateway.start()
        talking = asyncio.create_task(crowd.talk(STREAMS))
        await asyncio.sleep(crowd.chance.uniform(0.5, 1))
        if number % 2 == 0:
            redis.kill()
        await asyncio.sleep(crowd.chance.uniform(0, 1))
        gateway.kill()
        await talking
        if number % 2 == 0:
            await asyncio.to_thread(redis.start)
        await reconciled(folder, crowd, redis.url)
    assert crowd.broken
    async with gateway:
        before = len(await reconciled(folder, crowd, redis.url))
        await serve_and_count(gateway, crowd)
    assert len(await reconciled(folder, crowd, redis.url)) == before + 12


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_gateway_outlives_its_redis_without_losing_a_turn(
    engine: ScriptedEngine, redis: RedisServer, tmp_path: Path, rounds: int
) -> None:
    folder = tmp_path / "journal"
    async with GatewayProcess(engine.url, folder, redis_url=redis.url) as gateway:
        crowd = Crowd(gateway.url, random.Random(5))
        talking = asyncio.create_task(crowd.talk(STREAMS))
        for _ in range(rounds):
            await asyncio.sleep(crowd.chance.uniform(0.2, 1))
            redis.kill()
            await asyncio.sleep(crowd.chance.uniform(0.2, 1))
            await asyncio.to_thread(redis.start)
        crowd.hush()
        await talking
        async with asyncio.timeout(60):
            while (metrics := await gateway.metrics())["safechat_journal_spooled"]:
                await asyncio.sleep(0.05)
    assert (crowd.failed, crowd.broken) == ([], 0)
    assert metrics["safechat_journal_dropped"] == 0
    found = await reconciled(folder, crowd, redis.url)
    assert metrics["safechat_requests_received_total"] == crowd.sent
    assert metrics["safechat_requests_total"] == len(found) == crowd.sent
