"""The gateway's memory in trouble: Redis, disk and clock fail, and no turn is lost unseen."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from flywheel.journal import Journal, JournalOptions, entries
from flywheel.redis.journal import RedisJournal
from flywheel.sqlite.journal import SqliteJournal
from server.settings import JournalSettings, OnJournalFailure
from tests.chaos.house import House, ways
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import STORY
from tests.fakes.disk import Disk
from tests.fakes.scorer import ScriptedScorer
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.redis_server import RedisServer

STREAMS = 16
WAVES = 4
REPLY = Script.words(STORY, delay=0.001)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "disk") as disk:
        yield disk


async def waves(house: House) -> list[str]:
    """How the streams of several crowds ended, one crowd after the other."""
    ends = list[str]()
    for _ in range(WAVES):
        ends += ways(await house.crowd(STREAMS)).elements()
    return ends


async def _dies(redis: RedisServer, seconds: float) -> None:
    redis.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(redis.start)


async def _freezes(redis: RedisServer, seconds: float) -> None:
    with redis.silent():
        await asyncio.sleep(seconds)


async def _fills_up(redis: RedisServer, seconds: float) -> None:
    async with Redis.from_url(redis.url) as admin:
        await admin.config_set("maxmemory", 1)
        await asyncio.sleep(seconds)
        await admin.config_set("maxmemory", 0)


TROUBLES: list[Callable[[RedisServer, float], Awaitable[None]]] = [_dies, _freezes, _fills_up]


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_redis_that_dies_freezes_and_fills_up_costs_no_turn(
    tmp_path: Path, redis: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(REPLY) as engine,
        House.open(
            engine.url, ScriptedScorer(), tmp_path / "spool", redis_url=SecretStr(redis.url)
        ) as house,
    ):
        talking = asyncio.create_task(waves(house))
        for trouble in chance.sample(TROUBLES, 3):
            await asyncio.sleep(chance.uniform(0, 0.5))
            await trouble(redis, chance.uniform(0.2, 1.5))
        assert set(await talking) == {"stop"}
        assert await house.settled() == {"completed": WAVES * STREAMS}


@pytest.mark.parametrize("on_failure", list(OnJournalFailure))
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_disk_that_fills_up_costs_what_is_counted(
    disk: Disk, seed: int, on_failure: OnJournalFailure
) -> None:
    chance = random.Random(seed)
    settings = JournalSettings(folder=disk.folder, on_failure=on_failure)
    async with (
        ScriptedEngine(REPLY) as engine,
        House.open(engine.url, ScriptedScorer(), disk.folder, journal_settings=settings) as house,
    ):
        ends = await _with_a_disk_that_fills_up(house, disk, chance)
        lost = await _lost(house)
        outcomes = await house.settled(lost=lost)
    if on_failure is OnJournalFailure.SERVE:
        assert set(ends) == {"stop"}
        assert outcomes == {"completed": len(ends)}
    else:
        assert set(ends) <= {"stop", "journal_error"}
        assert ends.count("journal_error") == lost == outcomes["guard_failed"]


@pytest.mark.parametrize("seed", SEEDS)
async def test_without_redis_and_disk_what_is_lost_is_counted(
    tmp_path: Path, redis: RedisServer, disk: Disk, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(REPLY) as engine,
        House.open(
            engine.url, ScriptedScorer(), disk.folder, redis_url=SecretStr(redis.url)
        ) as house,
    ):
        dying = asyncio.create_task(_dies(redis, chance.uniform(0.5, 1.5)))
        ends = await _with_a_disk_that_fills_up(house, disk, chance)
        await dying
        assert set(ends) == {"stop"}
        outcomes = await house.settled(lost=await _lost(house))
    assert outcomes == {"completed": len(ends)}


async def _with_a_disk_that_fills_up(house: House, disk: Disk, chance: random.Random) -> list[str]:
    talking = asyncio.create_task(waves(house))
    for _ in range(2):
        await asyncio.sleep(chance.uniform(0, 0.5))
        with disk.full():
            await asyncio.sleep(chance.uniform(0.2, 1))
    return await talking


async def _lost(house: House) -> int:
    journal = house.gateway.parts.journal
    assert journal is not None
    return (await journal.counters()).dropped


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_clock_that_jumps_confuses_neither_turns_nor_claims(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, seed: int, kind: str
) -> None:
    chance, noon = random.Random(seed), 1_790_000_000.0

    def clock() -> float:
        return noon + chance.uniform(-40_000, 40_000)

    monkeypatch.setattr("server.recorder.time", clock)
    options = JournalOptions(clock=clock)
    memory: SqliteJournal | RedisJournal = SqliteJournal(tmp_path / "journal.sqlite", options)
    if kind == "redis":
        memory = RedisJournal(redis.url, options, spool=tmp_path / "spool.sqlite")
    async with (
        memory as journal,
        ScriptedEngine(REPLY) as engine,
        House.open(engine.url, ScriptedScorer(), tmp_path, journal=journal) as house,
    ):
        talking = asyncio.create_task(waves(house))
        while not talking.done():
            await asyncio.gather(journal.sweep(), asyncio.sleep(0.05))
        assert set(await talking) == {"stop"}
        assert await house.settled() == {"completed": WAVES * STREAMS}
        found = [entry async for entry in entries(journal)]
        assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})
        assert all(entry.record.messages is not None for entry in found), "within their grace"
        assert await _holders(journal) == 1


async def _holders(journal: Journal) -> int:
    """How many of ten raters get one item, for longer than any jump."""
    raters = [f"rater-{number}" for number in range(10)]
    claims = await asyncio.gather(*(journal.claim("item", rater, 100_000) for rater in raters))
    return sum(claim is not None for claim in claims)
