"""A task that loses a cancellation, as Python 3.11's `wait_for` may, still ends."""

import asyncio
from pathlib import Path

import pytest

from flywheel.background import ended
from flywheel.sqlite.journal import SqliteJournal
from flywheel.store import open_journal


async def deaf_once() -> int:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)
    return 0


async def begun(task: asyncio.Task[int]) -> asyncio.Task[int]:
    await asyncio.sleep(0)
    return task


async def test_it_is_cancelled_until_it_has_ended() -> None:
    task = await begun(asyncio.create_task(deaf_once()))
    async with asyncio.timeout(30):
        await ended(task)
    assert task.cancelled()


async def test_what_a_task_raised_is_raised() -> None:
    async def fails() -> int:
        raise OSError("the disk is gone")

    task = await begun(asyncio.create_task(fails()))
    with pytest.raises(OSError, match="the disk is gone"):
        await ended(task)


async def test_a_journal_closes_though_its_sweep_lost_the_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sweep(journal: SqliteJournal) -> int:
        return await deaf_once()

    monkeypatch.setattr(SqliteJournal, "sweep", sweep)
    async with asyncio.timeout(30):
        async with open_journal(tmp_path):
            await asyncio.sleep(0)
