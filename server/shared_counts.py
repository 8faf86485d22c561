"""Counts that all gateways share, in Redis.

Rates are one counter for each key and minute. A stream in flight is a member of a sorted set,
whose score is when its lease ends by Redis's clock. The gateway renews the leases of its
streams, so those of one that crashed run out, and those that Redis lost come back.

Everything is counted here too, and that count decides while Redis is away. Which streams ended
meanwhile it is told once it is back, or a Redis that comes and goes would be full of them. What was
spent is not told later: windows end by themselves.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import Final, Self

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter

from flywheel.background import ended
from server.counts import Full, LocalCounts, Permit
from server.redis_link import BACKGROUND_S, PREFIX, RedisAway, RedisLink

LEASE_S: Final = 10.0
_RENEWALS_A_LEASE: Final = 3
_UNTOLD: Final = 10_000
"""Ended streams that Redis is told of once it is back; the leases of earlier ones have run out."""

# ARGV: permit, bound on all streams, bound on this key's or '', lease in ms.
_ENTER: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, streams in ipairs(KEYS) do redis.call('ZREMRANGEBYSCORE', streams, '-inf', now) end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 'all' end
if ARGV[3] ~= '' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 'key' end
for _, streams in ipairs(KEYS) do
  redis.call('ZADD', streams, now + ARGV[4], ARGV[1])
  redis.call('PEXPIRE', streams, ARGV[4])
end
return ''
"""

# ARGV: lease in ms, then permits; KEYS: all streams, then those of each permit's key.
_RENEW: Final = """
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 2, #ARGV do
  for _, streams in ipairs({KEYS[1], KEYS[i]}) do
    redis.call('ZADD', streams, ends, ARGV[i])
    redis.call('PEXPIRE', streams, ARGV[1])
  end
end
"""


class SharedCounts:
    """`Counts` of all gateways at one Redis. lease_s: how long a crashed one's streams count."""

    def __init__(self, link: RedisLink, *, lease_s: float = LEASE_S) -> None:
        self._link = link
        self._lease_s = lease_s
        self._local = LocalCounts()
        self._rates = FixedWindowRateLimiter(
            RedisStorage(
                "redis://",
                implementation="redispy",
                key_prefix=f"{PREFIX}:rates",
                connection_pool=link.redis.connection_pool,  # type: ignore[arg-type]
            )
        )
        self._enter = link.redis.register_script(_ENTER)
        self._renew = link.redis.register_script(_RENEW)
        self._spent: Counter[tuple[RateLimitItem, str, str]] = Counter()
        self._left: list[Permit] = []
        self._wake = asyncio.Event()
        self._renewed = monotonic()

    async def __aenter__(self) -> Self:
        self._link.on_return(self._renew_soon)
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await ended(self._keeper)
        self._left += self._local.permits.values()
        with suppress(RedisAway):
            await self._tell()

    @property
    def in_flight(self) -> int:
        return self._local.in_flight

    async def hit(self, item: RateLimitItem, key_id: str, what: str) -> bool:
        here = await self._local.hit(item, key_id, what)
        try:
            return await self._link.ask(partial(self._rates.hit, item, key_id, what))
        except RedisAway:
            return here

    async def has_room(self, item: RateLimitItem, key_id: str, what: str) -> bool:
        try:
            return await self._link.ask(partial(self._rates.test, item, key_id, what))
        except RedisAway:
            return await self._local.has_room(item, key_id, what)

    async def resets_in(self, item: RateLimitItem, key_id: str, what: str) -> float:
        ends = partial(self._rates.storage.get_expiry, item.key_for(key_id, what))
        try:
            return max(0.0, await self._link.ask(ends) - time())
        except RedisAway:
            return await self._local.resets_in(item, key_id, what)

    def spend(self, item: RateLimitItem, key_id: str, what: str, cost: int) -> None:
        self._local.spend(item, key_id, what, cost)
        self._spent[item, key_id, what] += cost
        self._wake.set()

    async def enter(self, permit: Permit, streams: int, per_key: int | None) -> Full | None:
        full = await self._local.enter(permit, streams, per_key)
        if full is not None:
            return full
        keys = [_streams(), _streams(permit.key_id)]
        args: list[str | int] = [
            permit.id,
            streams,
            "" if per_key is None else per_key,
            self._lease_ms,
        ]
        try:
            answer = await self._link.ask(partial(self._enter, keys, args))
        except RedisAway:
            return None
        if not answer:
            return None
        self._local.leave(permit)
        return Full(answer)

    def leave(self, permit: Permit) -> None:
        if permit.id in self._local.permits:
            self._local.leave(permit)
            self._left.append(permit)
            self._wake.set()

    @property
    def _lease_ms(self) -> int:
        return int(self._lease_s * 1000)

    def _renew_soon(self) -> None:
        self._renewed = 0.0
        self._wake.set()

    async def _keep(self) -> None:
        """Tell Redis what no request waits for. One at a time, so that nothing that was taken
        back is renewed afterwards."""
        every_s = self._lease_s / _RENEWALS_A_LEASE
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._wake.wait()
            self._wake.clear()
            with suppress(RedisAway):
                await self._tell()
                if monotonic() - self._renewed >= every_s:
                    await self._renew_all()

    async def _tell(self) -> None:
        left, self._left = self._left, []
        spent, self._spent = self._spent, Counter()
        if left:
            try:
                await self._link.ask(partial(self._remove, left), within_s=BACKGROUND_S)
            except RedisAway:
                self._left = [*left, *self._left][-_UNTOLD:]
                raise
        for (item, key_id, what), cost in spent.items():
            hit = partial(self._rates.hit, item, key_id, what, cost=cost)
            await self._link.ask(hit, within_s=BACKGROUND_S)

    async def _renew_all(self) -> None:
        self._renewed = monotonic()
        permits = [*self._local.permits.values()]
        if permits:
            keys = [_streams(), *(_streams(permit.key_id) for permit in permits)]
            args: list[str | int] = [self._lease_ms, *(permit.id for permit in permits)]
            await self._link.ask(partial(self._renew, keys, args), within_s=BACKGROUND_S)

    async def _remove(self, permits: Sequence[Permit]) -> None:
        async with self._link.redis.pipeline(transaction=False) as pipeline:
            for permit in permits:
                pipeline.zrem(_streams(), permit.id)
                pipeline.zrem(_streams(permit.key_id), permit.id)
            await pipeline.execute()


def _streams(key_id: str | None = None) -> str:
    """The key of all streams, or of those of one API key."""
    return f"{PREFIX}:streams" if key_id is None else f"{PREFIX}:streams:{key_id}"
