"""One Redis that gateways share, and that none of them depends on.

    up ── a failure, or no answer in time ──▶ away ── a ping is answered ──▶ up

While it is away, nothing is asked of it and asking fails at once; a task of its own pings it
at growing distance. So a dead Redis costs the requests of one moment a short wait each, and
later ones nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

import structlog
from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from flywheel.background import ended

log = structlog.get_logger(__name__)
T = TypeVar("T")

PREFIX: Final = "{safechat}"
"""Of every key: a hash tag, so that one script may touch several."""
BACKGROUND_S: Final = 1.0
"""How long work waits that no request waits for."""

_CONNECTIONS: Final = 32
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0


class RedisAway(Exception):
    """Redis does not answer, or not in time."""


class RedisLink:
    """Asks Redis things, within bounds of time. Entering does not need Redis to be up.

    request_s: how long a request waits for an answer. changed: called with whether Redis is
    up, when that changes. failed: called for each question that was put and not answered.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        request_s: float = 0.05,
        changed: Callable[[bool], None] = lambda up: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url.get_secret_value(),
            max_connections=_CONNECTIONS,
            timeout=BACKGROUND_S,
            socket_timeout=BACKGROUND_S,
            socket_connect_timeout=BACKGROUND_S,
            retry=None,
            decode_responses=True,
            encoding_errors="surrogatepass",
        )
        self.redis: Redis = Redis.from_pool(pool)
        self.up = False
        self._request_s = request_s
        self._changed = changed
        self._failed = failed
        self._returned: list[Callable[[], None]] = []
        self._asked: set[asyncio.Task[Any]] = set()
        self._waiting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if not await self._answers():
            self._lost("does not answer at the start")
        else:
            self._found()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._waiting is not None:
            await ended(self._waiting)
        asked = list(self._asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self.redis.aclose()

    def on_return(self, call: Callable[[], None]) -> None:
        """Call this whenever Redis is back."""
        self._returned.append(call)

    async def ask(
        self, command: Callable[[], Coroutine[Any, Any, T]], *, within_s: float | None = None
    ) -> T:
        """What the command answers. Raises RedisAway, at once while Redis is known to be away.

        A command that takes too long goes on, so that a slow new connection is there for
        the next one.
        """
        if not self.up:
            raise RedisAway
        task = asyncio.create_task(command())
        self._asked.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=within_s or self._request_s)
        if not task.done():
            self._lost("too slow")
            raise RedisAway
        try:
            return task.result()
        except (RedisError, OSError) as error:
            self._lost(type(error).__name__)
            raise RedisAway from error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even where nobody waits for the answer any more

    def _lost(self, why: str) -> None:
        self._failed()
        if self._waiting is not None:
            return
        log.warning("redis_away", why=why)
        self.up = False
        self._changed(False)
        self._waiting = asyncio.create_task(self._wait_for_return())

    def _found(self) -> None:
        self.up = True
        self._waiting = None
        self._changed(True)
        for call in self._returned:
            call()

    async def _wait_for_return(self) -> None:
        pause = _FIRST_PAUSE_S
        await asyncio.sleep(pause)
        while not await self._answers():
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)
        log.info("redis_back")
        self._found()

    async def _answers(self) -> bool:
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(BACKGROUND_S):
                return bool(await self.redis.ping())
        return False
