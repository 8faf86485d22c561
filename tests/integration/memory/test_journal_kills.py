"""`kill -9` at any moment: what was acknowledged is there, once."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from flywheel.journal import Journal, entries
from flywheel.store import open_journal
from tests.redis_server import RedisServer

_TURNS_BEFORE_DEATH = 60


class Writer:
    """A process that records turns as fast as it can."""

    def __init__(self, folder: Path, name: str, redis_url: str | None) -> None:
        self._name = name
        words = [str(folder), name, *([redis_url] if redis_url else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.journal_writer", *words], stdout=subprocess.PIPE
        )

    def wait_for(self, turns: int) -> list[str]:
        """Ids acknowledged since they were last asked for, of which there are so many."""
        assert self._process.stdout is not None
        found = list[str]()
        while len(found) < turns:
            line = self._process.stdout.readline()
            assert line, "the writer died"
            found += self._ids(line)
        return found

    def kill(self) -> list[str]:
        """Ids acknowledged since they were last asked for."""
        self._process.kill()
        said, _ = self._process.communicate()
        return self._ids(said)

    def _ids(self, said: bytes) -> list[str]:
        """What was said to the end, without what was only logged."""
        lines = said.decode().split("\n")[:-1]
        return [line for line in lines if line.startswith(f"{self._name}-")]


async def everything(journal: Journal) -> Counter[str]:
    while (await journal.counters()).spooled:
        await asyncio.sleep(0.05)
    return Counter([entry.record.turn_id async for entry in entries(journal)])


async def _kill_writers(folder: Path, redis_url: str | None, rounds: int) -> None:
    acknowledged = set[str]()
    for number in range(rounds):
        writer = Writer(folder, f"round-{number}", redis_url)
        acknowledged.update(writer.wait_for(_TURNS_BEFORE_DEATH))
        time.sleep(random.uniform(0, 0.3))  # noqa: ASYNC251
        acknowledged.update(writer.kill())
        async with open_journal(folder, redis_url=redis_url) as journal:
            found = await everything(journal)
        assert acknowledged <= set(found)
        assert set(found.values()) == {1}


async def test_a_killed_gateway_loses_no_turn(tmp_path: Path) -> None:
    await _kill_writers(tmp_path, None, rounds=3)


async def test_a_killed_gateway_with_redis_loses_no_turn(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    await _kill_writers(tmp_path, redis_server.url, rounds=3)


@pytest.mark.verify
@pytest.mark.timeout(900)
async def test_a_gateway_killed_often_loses_no_turn(tmp_path: Path) -> None:
    await _kill_writers(tmp_path, None, rounds=30)


@pytest.mark.verify
@pytest.mark.timeout(900)
async def test_a_gateway_with_redis_killed_often_loses_no_turn(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    await _kill_writers(tmp_path, redis_server.url, rounds=30)


async def test_a_killed_redis_loses_no_turn(tmp_path: Path, redis_server: RedisServer) -> None:
    writer = Writer(tmp_path, "turn", redis_server.url)
    acknowledged = set(writer.wait_for(_TURNS_BEFORE_DEATH))
    for _ in range(2):
        redis_server.kill()
        acknowledged.update(writer.wait_for(_TURNS_BEFORE_DEATH))
        redis_server.start()
        acknowledged.update(writer.wait_for(_TURNS_BEFORE_DEATH))
    acknowledged.update(writer.kill())
    async with open_journal(tmp_path, redis_url=redis_server.url) as journal:
        found = await everything(journal)
    assert acknowledged <= set(found)
    assert set(found.values()) == {1}
