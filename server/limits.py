"""How much one key, and all of them together, may ask for. Full means 429, never a queue."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits import RateLimitItem, RateLimitItemPerMinute

from server.auth import Caller
from server.counts import Counts, Full, LocalCounts, Permit
from server.errors import InvalidRequest, TooManyRequests
from server.settings import LimitSettings


class Limits:
    """Rates by key and minute, and bounds on the streams in flight.

    counts: where they are counted; without, in this process.
    """

    def __init__(self, settings: LimitSettings, counts: Counts | None = None) -> None:
        self._settings = settings
        self._counts = counts or LocalCounts()

    @property
    def in_flight(self) -> int:
        """Streams of this process."""
        return self._counts.in_flight

    async def check_rates(self, caller: Caller) -> None:
        """Count one request. Raises TooManyRequests with the time until the next window."""
        requests = self._requests(caller)
        if requests is not None and not await self._counts.hit(requests, caller.id, "requests"):
            raise await self._too_many(requests, caller, "requests")
        tokens = self._tokens(caller)
        if tokens is not None and not await self._counts.has_room(tokens, caller.id, "tokens"):
            raise await self._too_many(tokens, caller, "tokens")

    def spend_tokens(self, caller: Caller, tokens: int) -> None:
        """Count what a turn used. The turn is over: only the next one can be refused."""
        item = self._tokens(caller)
        if item is not None and tokens > 0:
            self._counts.spend(item, caller.id, "tokens", tokens)

    def check_batch(self, size: int, param: str = "input") -> None:
        """Raises InvalidRequest for more texts than one request may have judged."""
        if size > self._settings.batch:
            raise InvalidRequest(
                f"`{param}` has {size} entries; at most {self._settings.batch} are judged at once",
                param=param,
                code="batch_too_large",
            )

    @asynccontextmanager
    async def permit(self, caller: Caller) -> AsyncIterator[None]:
        """Admission for one turn, for as long as its stream lives."""
        permit = Permit(caller.id)
        streams, per_key = self._settings.streams, self._settings.streams_per_key
        try:
            full = await self._counts.enter(permit, streams, per_key)
            if full is Full.ALL:
                raise _full(f"{streams} streams are in flight, which is the limit")
            if full is Full.KEY:
                raise _full(f"this key has {per_key} streams in flight, which is its limit")
            yield
        finally:
            # Awaits nothing: a cancelled turn comes by here too.
            self._counts.leave(permit)

    def _requests(self, caller: Caller) -> RateLimitItem | None:
        own = caller.key.requests_per_minute if caller.key else None
        amount = own or self._settings.requests_per_minute
        return RateLimitItemPerMinute(amount) if amount else None

    def _tokens(self, caller: Caller) -> RateLimitItem | None:
        own = caller.key.tokens_per_minute if caller.key else None
        amount = own or self._settings.tokens_per_minute
        return RateLimitItemPerMinute(amount) if amount else None

    async def _too_many(self, item: RateLimitItem, caller: Caller, what: str) -> TooManyRequests:
        return TooManyRequests(
            f"this key may use {item.amount} {what} a minute",
            code=f"{what}_limit",
            retry_after_s=await self._counts.resets_in(item, caller.id, what),
        )


def _full(message: str) -> TooManyRequests:
    return TooManyRequests(message, code="streams_limit", retry_after_s=1.0)
