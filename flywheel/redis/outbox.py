"""Writes on their way to Redis: those that wait leave together.

While one batch is on its way the next gathers, so many turns share one round trip, and with
`appendfsync always` one fsync. A turn waits for the batch before it and for its own.
"""

import asyncio
from typing import Any, Final

from redis.exceptions import RedisError

from flywheel.journal import JournalUnavailable
from flywheel.redis.commands import Commands
from flywheel.redis.spool import Spooled

_BATCH: Final = 256


class Outbox:
    """Sends writes in the order in which they came, over one connection at a time."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._waiting: list[tuple[Spooled, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def send(self, write: Spooled) -> Any:
        """What Redis answers. Raises RedisError, JournalUnavailable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        try:
            while batch := self._waiting[:_BATCH]:
                del self._waiting[:_BATCH]
                try:
                    answers = await self._commands.send([write for write, _ in batch])
                except (RedisError, JournalUnavailable) as error:
                    # Whoever waits behind would wait as long and hear the same.
                    batch += self._waiting
                    self._waiting.clear()
                    answers = [error] * len(batch)
                for (_, answer), said in zip(batch, answers, strict=True):
                    _settle(answer, said)
        finally:
            self._sending = None


def _settle(answer: asyncio.Future[Any], said: Any) -> None:
    if answer.done():  # nobody waits for it any more
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
