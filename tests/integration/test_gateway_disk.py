"""A gateway whose disk is full or read-only: requests go on or stop as the settings say."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flywheel.journal import entries
from flywheel.sqlite.journal import SqliteJournal
from tests.crowd import Crowd, told
from tests.fakes.disk import Disk
from tests.fakes.scripted_engine import ScriptedEngine
from tests.gateway_process import GatewayProcess

SERVE = {"journal__on_failure": "serve"}
REFUSE = {"journal__on_failure": "refuse"}


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(told) as engine:
        yield engine


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "disk") as disk:
        yield disk


async def kept(folder: Path) -> set[str]:
    async with SqliteJournal(folder / "journal.sqlite", read_only=True) as journal:
        return {entry.record.turn_id async for entry in entries(journal)}


async def test_with_a_full_disk_turns_are_served_and_counted_as_lost(
    engine: ScriptedEngine, disk: Disk
) -> None:
    async with GatewayProcess(engine.url, disk.folder, **SERVE) as gateway:
        before, during, after = (Crowd(gateway.url, random.Random(seed)) for seed in range(3))
        await before.talk(4, turns=2)
        with disk.full():
            await during.talk(4, turns=40)  # some room is left in what the journal has already
            lost = (await gateway.metrics())["safechat_journal_dropped"]
        await after.talk(4, turns=2)
        metrics = await gateway.metrics()
    everybody = before.seen | during.seen | after.seen
    assert during.failed == []
    assert len(during.seen) == 160
    assert 0 < lost == metrics["safechat_journal_dropped"]
    assert metrics["safechat_journal_failures"] > 0
    assert metrics["safechat_requests_total"] == 176 == len(everybody)
    found = await kept(disk.folder)
    assert found == everybody.keys() & found
    assert len(found) == 176 - lost
    assert before.seen.keys() | after.seen.keys() <= found


async def test_with_a_full_disk_turns_that_must_be_recorded_fail_in_words(
    engine: ScriptedEngine, disk: Disk
) -> None:
    async with GatewayProcess(engine.url, disk.folder, **REFUSE) as gateway:
        during, after = (Crowd(gateway.url, random.Random(seed)) for seed in range(2))
        with disk.full():
            await during.talk(4, turns=40)
        await after.talk(4, turns=2)
        metrics = await gateway.metrics()
    assert set(during.failed) == {"journal_error"}
    assert len(after.seen) == 8
    assert metrics["safechat_journal_dropped"] == len(during.failed)
    assert await kept(disk.folder) == during.seen.keys() | after.seen.keys()


async def test_a_gateway_starts_on_a_read_only_disk_and_records_once_it_can(
    engine: ScriptedEngine, disk: Disk
) -> None:
    gateway = GatewayProcess(engine.url, disk.folder / "journal", **SERVE)
    during, after = (Crowd(gateway.url, random.Random(seed)) for seed in range(2))
    try:
        with disk.read_only():
            await gateway.start()
            await during.talk(2, turns=2)
            assert (await gateway.metrics())["safechat_journal_dropped"] == 4
        await after.talk(2, turns=2)
        assert (await gateway.metrics())["safechat_journal_dropped"] == 4
    finally:
        gateway.kill()
    assert len(during.seen) == 4
    assert await kept(disk.folder / "journal") == after.seen.keys()


async def test_a_gateway_that_must_record_does_not_start_on_a_read_only_disk(
    engine: ScriptedEngine, disk: Disk
) -> None:
    settings = {**REFUSE, "guard__scorer": "constant"}
    gateway = GatewayProcess(engine.url, disk.folder / "journal", **settings)
    with disk.read_only():
        status, said = await asyncio.to_thread(gateway.fail)
    assert status == 2
    assert said.startswith("safechat: journal.sqlite: ")
    assert "Read-only" in said
