"""Journals on SQLite and on a real Redis, and what tests say to them."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from flywheel.journal import Journal, JournalOptions, entries
from flywheel.opinions import Feedback, FeedbackKind, SafetyRating
from flywheel.redis.journal import RedisJournal
from flywheel.sqlite.journal import SqliteJournal
from tests.fakes.turns import NOON
from tests.redis_server import RedisServer


@dataclass
class Store:
    """Opens journals on one backend, each on a store of its own unless named."""

    kind: str
    folder: Path
    redis: RedisServer
    stack: AsyncExitStack
    now: float = NOON

    async def open(self, name: str | None = None, **options: Any) -> Journal:
        name = name or uuid4().hex
        chosen = JournalOptions(clock=lambda: self.now, **options)
        if self.kind == "sqlite":
            return await self.stack.enter_async_context(
                SqliteJournal(self.folder / f"{name}.sqlite", chosen)
            )
        spool = self.folder / f"{name}-{uuid4().hex}.spool"
        return await self.stack.enter_async_context(
            RedisJournal(self.redis.url, chosen, spool=spool, prefix=name)
        )


def report(turn_id: str = "turn-1", key_id: str = "ada", **more: Any) -> Feedback:
    said = {"kind": FeedbackKind.REPORT, "time": NOON + 5, "text": "That was rude.", **more}
    return Feedback.of(turn_id, key_id, **said)


def rating(item_id: str = "item-1", **more: Any) -> SafetyRating:
    said = {"rater_id": "r1", "turn_id": "turn-1", "time": NOON + 9, "score": 2, **more}
    return SafetyRating(item_id=item_id, **said)


async def ids(journal: Journal, *, flagged: bool = False, page: int = 2) -> list[str]:
    return [e.record.turn_id async for e in entries(journal, flagged=flagged, page=page)]


async def queued(journal: Journal) -> list[str]:
    found, after = list[str](), -1
    while page := await journal.queue(after, 2):
        found += [entry.record.turn_id for entry in page]
        after = page[-1].rank
    return found


async def sweep_all(journal: Journal) -> None:
    while await journal.sweep():
        pass


async def drained(journal: Journal) -> None:
    """Wait until nothing waits for Redis."""
    async with asyncio.timeout(60):
        while (await journal.counters()).spooled:
            await asyncio.sleep(0.05)
