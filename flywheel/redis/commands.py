"""The journal's scripts as typed calls. All raise RedisError."""

from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from flywheel.journal import (
    DAY_S,
    PENDING,
    PENDING_PER_KEY,
    Claim,
    JournalOptions,
    JournalUnavailable,
    NotYours,
    UnknownTurn,
    feedback_level,
)
from flywheel.opinions import Feedback, Rating
from flywheel.redis import scripts
from flywheel.redis.spool import Erasure, Spooled
from flywheel.rows import Row

_STEP = 500
_SMALL_STEP = 50

_Call = tuple[str, tuple[str | bytes | float, ...]]


class Commands:
    """Changes of the store below one prefix, which is a hash tag: `{safechat}`.

    read_only: every change raises JournalUnavailable.
    """

    def __init__(self, redis: Redis, prefix: str, *, read_only: bool = False) -> None:
        self.redis = redis
        self.read_only = read_only
        self._prefix = prefix
        self._scripts = {
            name: redis.register_script(scripts.script(getattr(scripts, name)))
            for name in scripts.ALL
        }

    def key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    async def send(self, writes: Sequence[Spooled]) -> list[Any]:
        """Apply writes in their order, in one round trip. What each answers, or its error.

        Sent again, a write changes nothing.
        """
        self._check()
        calls = [_call_of(write) for write in writes]
        answers = await self._pipelined(calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            for script in self._scripts.values():
                await self.redis.script_load(script.script)
            answers = await self._pipelined(calls)
        return answers

    async def probe(self) -> None:
        """A write that changes nothing. Raises RedisError where Redis takes no writes.

        On a new connection: Redis keeps room for as large a write as the last one of each, which
        can be what fills its memory.
        """
        await self.redis.connection_pool.disconnect(inuse_connections=False)
        await self.redis.incrby(self.key("bytes"), 0)

    async def prioritise(self, turn_id: str, level: int) -> bool:
        return bool(await self._run("PRIORITISE", turn_id, level))

    async def set_reviewed(self, turn_id: str, reviewed: bool) -> bool:
        return bool(await self._run("SET_REVIEWED", turn_id, int(reviewed)))

    async def rate(self, rating: Rating) -> bool:
        body = rating.model_dump_json()
        turn_id = rating.turn_id or ""
        return bool(await self._run("RATE", rating.id, rating.item_id, turn_id, rating.time, body))

    async def withdraw(self, rating: Rating) -> bool:
        turn_id = rating.turn_id or ""
        return bool(await self._run("WITHDRAW", rating.id, rating.item_id, turn_id))

    async def claim(self, wanted: Claim, now: float) -> bool:
        return bool(await self._run("CLAIM", wanted.item_id, wanted.rater_id, now, wanted.expires))

    async def release(self, item_id: str, rater_id: str, now: float) -> bool:
        return bool(await self._run("RELEASE", item_id, rater_id, now))

    async def quarantine(self, turn_id: str, reason: str) -> None:
        await self._run("QUARANTINE", turn_id, reason)

    async def sweep(self, options: JournalOptions, now: float) -> int:
        oldest = "" if options.max_age_s is None else now - options.max_age_s
        most = "" if options.max_bytes is None else options.max_bytes
        stale = now - DAY_S
        return int(await self._run("SWEEP", now, oldest, most, stale, _STEP, _SMALL_STEP))

    def _check(self) -> None:
        if self.read_only:
            raise JournalUnavailable("the journal was opened for reading alone")

    async def _pipelined(self, calls: Sequence[_Call]) -> list[Any]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for name, args in calls:
                pipe.evalsha(self._scripts[name].sha, 1, self._prefix, *args)
            return await pipe.execute(raise_on_error=False)

    async def _run(self, name: str, *args: str | bytes | float) -> Any:
        self._check()
        return await self._scripts[name](keys=[self._prefix], args=args)


def joined(said: Feedback, answer: str) -> bool:
    """What Redis said to feedback; False: it waits for its turn. Raises NotYours, UnknownTurn."""
    if answer == "not_yours":
        raise NotYours(said.turn_id)
    if answer == "unknown":
        raise UnknownTurn(said.turn_id)
    return answer == "joined"


def _call_of(write: Spooled) -> _Call:
    if isinstance(write, Row):
        return "RECORD", (
            write.turn_id,
            write.key_id,
            write.conversation,
            write.time,
            write.flags,
            write.level,
            "" if write.keep_until is None else write.keep_until,
            write.body,
            write.content or "",
            write.outcome,
        )
    if isinstance(write, Erasure):
        return "ERASE", (write.conversation, write.key_id, write.time)
    envelope = {
        "id": write.id,
        "key": write.key_id,
        "time": write.time,
        "flag": write.kind.flag or "",
        "level": feedback_level(write.kind),
        "body": write.model_dump_json(),
    }
    return "FEEDBACK", (write.turn_id, orjson.dumps(envelope), PENDING_PER_KEY, PENDING)
