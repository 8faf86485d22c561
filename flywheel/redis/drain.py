"""Brings what waits in the spool to Redis, in its order, past what Redis refuses for ever.

A write that fails may be at fault itself, and then it must not hold up all behind it; or Redis
is in trouble, and then everything waits in its place. Probes, which are writes that change
nothing, tell the one from the other:

    probe ── fails ──▶ Redis is in trouble
      │ taken
    the write alone ── taken ──▶ on with the next
      │ fails
    probe ── fails ──▶ Redis is in trouble
      │ taken
    the write is put aside
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import structlog
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from flywheel.journal import JournalUnavailable
from flywheel.redis.commands import Commands
from flywheel.redis.spool import Erasure, Spool, Spooled

log = structlog.get_logger(__name__)

_EVERY_S: Final = 0.25
_AGAIN_S: Final = 0.5
_BATCH: Final = 500
_ANEW_S: Final = 600.0
"""What was put aside waits in its place once more: what kept it from Redis may be mended."""
_MAY_PASS: Final = (ConnectionLost, NoAnswer, OutOfMemoryError, NoScriptError)
"""Trouble that may have come and gone between two probes."""
_TRIES: Final = 3
"""How often in a row a write meets such trouble before it is put aside."""


class Drain:
    """Empties a spool. Without an answer a write is sent again: a second time changes nothing."""

    def __init__(self, spool: Spool, commands: Commands) -> None:
        self._spool = spool
        self._commands = commands
        self._size = _BATCH
        self._tries = 0
        self._anew = monotonic() + _ANEW_S

    async def run(self) -> None:
        """Drain whenever something waits, for ever."""
        while True:
            pause = _EVERY_S
            try:
                await self._spool.count()
                if monotonic() >= self._anew:
                    self._anew = monotonic() + _ANEW_S
                    await self._spool.retry()
                while self._spool.depth and await self._send_some():
                    pass
            except (RedisError, JournalUnavailable) as error:
                log.warning("spool_waits", depth=self._spool.depth, error=type(error).__name__)
                pause = _AGAIN_S
            await asyncio.sleep(pause)

    async def _send_some(self) -> bool:
        """Send the oldest writes that wait, together; False: none do."""
        waiting = await self._spool.head(self._size)
        answers = await self._answers([write for _, write in waiting])
        failed = next((i for i, said in enumerate(answers) if isinstance(said, Exception)), None)
        await self._spool.done([seq for seq, _ in waiting[:failed]])
        for answer in answers[:failed]:
            if answer in ("not_yours", "unknown"):
                log.info("feedback_refused", reason=answer)
        if failed is None:
            self._size = min(2 * self._size, _BATCH)
            return bool(waiting)
        # Fewer at a time, until it is known which of them breaks the connection for all.
        self._size = max(1, self._size // 2)
        await self._send_alone(*waiting[failed])
        return True

    async def _send_alone(self, seq: int, write: Spooled) -> None:
        """Send one write, or put it aside. Raises RedisError where it has to wait."""
        await self._commands.probe()
        [answer] = await self._answers([write])
        if not isinstance(answer, Exception):
            self._tries = 0
            await self._spool.done([seq])
            return
        await self._commands.probe()
        self._tries += 1
        if isinstance(answer, _MAY_PASS) and self._tries < _TRIES:
            raise answer
        self._tries = 0
        await self._spool.put_aside(seq)
        log.error(
            "write_refused",
            write=type(write).__name__.lower(),
            turn_id=None if isinstance(write, Erasure) else write.turn_id,
            error=f"{type(answer).__name__}: {answer}",
            do="mend what Redis says; the write is kept, and sent again every ten minutes",
        )

    async def _answers(self, writes: Sequence[Spooled]) -> list[Any]:
        """What each write is answered; if all failed together, that error for each."""
        try:
            return await self._commands.send(writes)
        except RedisError as error:
            return [error] * len(writes)
