"""The journal that many gateways share, with a spool on each one's own disk.

Redis is the store itself, not a way to one: every gateway sees the same queue at once. While
Redis is away, turns, feedback and erasures wait in the spool, and what comes after them
queues up behind; a task drains the spool once Redis is back, and puts aside what Redis refuses
for ever. Reading, rating and claiming need Redis and raise JournalUnavailable without it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from flywheel.background import ended
from flywheel.journal import (
    Claim,
    Counters,
    Entry,
    JournalOptions,
    JournalUnavailable,
    NotYours,
    Tombstone,
    UnknownTurn,
    level_of,
)
from flywheel.opinions import Feedback, Rating
from flywheel.records import TurnRecord
from flywheel.redis import reads
from flywheel.redis.commands import Commands, joined
from flywheel.redis.drain import Drain
from flywheel.redis.outbox import Outbox
from flywheel.redis.spool import Erasure, Spool, Spooled
from flywheel.rows import encode, redacted

log = structlog.get_logger(__name__)
T = TypeVar("T")

_CONNECTIONS: Final = 32
_TIMEOUT_S: Final = 2.0


class RedisJournal:
    """A `Journal` in Redis 7 or later. Entering does not need Redis to be up.

    spool: this process's own file; None: what Redis does not take raises JournalUnavailable.
    read_only: change nothing; whatever would raises JournalUnavailable.
    patient: entering does not need the spool to be writable either.
    """

    def __init__(
        self,
        url: str,
        options: JournalOptions | None = None,
        *,
        spool: Path | None,
        prefix: str = "safechat",
        read_only: bool = False,
        patient: bool = False,
    ) -> None:
        self._options = options or JournalOptions()
        # Once more: an idle connection does not notice that Redis was restarted.
        self._redis: Redis = Redis.from_pool(
            BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT_S,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
                decode_responses=True,
                encoding_errors="surrogateescape",
            )
        )
        self._commands = Commands(self._redis, f"{{{prefix}}}", read_only=read_only)
        self._outbox = Outbox(self._commands)
        self._spool = None if spool is None else Spool(spool, patient=patient)
        self._writes: set[asyncio.Task[Any]] = set()
        self._stack = AsyncExitStack()
        self._known = Counters()
        self._dropped = 0
        self._failures = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._redis.aclose)
            if self._spool is not None:
                await stack.enter_async_context(self._spool)
                drain = asyncio.create_task(Drain(self._spool, self._commands).run())
                stack.push_async_callback(ended, drain)
            stack.push_async_callback(self._finish_writes)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def record(self, record: TurnRecord) -> None:
        async def store() -> None:
            await self._write(await self._prepared(lambda: encode(record, self._options)))

        try:
            await self._to_the_end(store())
        except JournalUnavailable:
            self._dropped += 1
            raise

    async def feedback(self, feedback: Feedback) -> bool:
        async def store() -> bool:
            said = await self._prepared(lambda: redacted(feedback, self._options))
            answer = await self._write(said)
            return answer is not None and joined(said, answer)

        return await self._to_the_end(store())

    async def erase(self, conversation_id: str, key_id: str) -> int:
        order = Erasure(conversation_id, key_id, self._options.clock())

        async def erase() -> int:
            waiting = await self._spool.erase(conversation_id, key_id) if self._spool else 0
            erased: int | None = await self._write(order)
            if erased is None:
                return waiting
            if erased < 0 and not waiting:
                raise NotYours(conversation_id)
            return max(erased, 0) + waiting

        return await self._to_the_end(erase())

    async def turn(self, turn_id: str, key_id: str | None = None) -> Entry:
        return await self._ask(reads.turn(self._commands, turn_id, key_id))

    async def page(
        self, after: int = 0, limit: int = 100, *, flagged: bool = False
    ) -> Sequence[Entry]:
        return await self._ask(reads.page(self._commands, after, limit, flagged=flagged))

    async def last_seq(self) -> int:
        return await self._ask(reads.last_seq(self._commands))

    async def latest(self, limit: int = 20) -> Sequence[Entry]:
        return await self._ask(reads.latest(self._commands, limit))

    async def queue(self, after: int = -1, limit: int = 100) -> Sequence[Entry]:
        return await self._ask(reads.queue(self._commands, after, limit))

    async def prioritise(self, turn_id: str, priority: float) -> None:
        if not await self._ask(self._commands.prioritise(turn_id, level_of(priority))):
            raise UnknownTurn(turn_id)

    async def set_reviewed(self, turn_id: str, reviewed: bool = True) -> None:
        if not await self._ask(self._commands.set_reviewed(turn_id, reviewed)):
            raise UnknownTurn(turn_id)

    async def claim(self, item_id: str, rater_id: str, lease_s: float) -> Claim | None:
        now = self._options.clock()
        wanted = Claim(item_id, rater_id, now + lease_s)
        return wanted if await self._ask(self._commands.claim(wanted, now)) else None

    async def release(self, item_id: str, rater_id: str) -> bool:
        return await self._ask(self._commands.release(item_id, rater_id, self._options.clock()))

    async def claims(self, item_ids: Sequence[str]) -> Mapping[str, Claim]:
        return await self._ask(reads.claims(self._commands, item_ids, self._options.clock()))

    async def add_rating(self, rating: Rating) -> None:
        if not await self._ask(self._commands.rate(rating)):
            raise UnknownTurn(str(rating.turn_id))

    async def withdraw_rating(self, rating: Rating) -> bool:
        return await self._ask(self._commands.withdraw(rating))

    async def ratings(self, item_id: str) -> Sequence[Rating]:
        return await self._ask(reads.ratings(self._commands, item_id))

    async def tombstones(self, after: float = 0.0) -> Sequence[Tombstone]:
        return await self._ask(reads.tombstones(self._commands, after))

    async def sweep(self) -> int:
        return await self._ask(self._commands.sweep(self._options, self._options.clock()))

    async def counters(self) -> Counters:
        """Without Redis, the numbers that only it has are the last known ones."""
        with suppress(JournalUnavailable):
            self._known = await self._ask(reads.counters(self._commands, self._options.clock()))
        counted = replace(self._known, dropped=self._dropped, failures=self._failures)
        if (spool := self._spool) is None:
            return counted
        return replace(
            counted,
            spooled=spool.depth,
            failures=counted.failures + spool.failures,
            quarantined=counted.quarantined + spool.unreadable,
            refused=spool.refused,
        )

    async def _write(self, write: Spooled) -> Any:
        """Send to Redis, or behind what waits already; None: it waits."""
        if self._spool is None:
            return await self._ask(self._outbox.send(write))
        if self._spool.depth == 0:
            try:
                return await self._outbox.send(write)
            except RedisError as error:
                self._failures += 1
                log.warning("redis_away", error=type(error).__name__)
        await self._spool.put(write)
        return None

    async def _prepared(self, prepare: Callable[[], T]) -> T:
        """In a thread where text is redacted, which may take its time."""
        if self._options.redact is None:
            return prepare()
        return await asyncio.to_thread(prepare)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work that goes on when whoever asked for it is cancelled."""
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever asked may be gone

    async def _finish_writes(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except RedisError as error:
            self._failures += 1
            raise JournalUnavailable(f"redis: {type(error).__name__}") from error
