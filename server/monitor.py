"""Knows whether the engine is up and what it serves, without asking it on every turn."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

import structlog

from server.engine import Engine, EngineInfo
from server.errors import ApiError, EngineUnavailable

log = structlog.get_logger(__name__)


class EngineMonitor:
    """Polls an engine's health. Open and close it as an async context manager.

    changed: called whenever the engine comes up or goes down. prepare: done before it counts
    as up, each time, and says whether it does: a restart has lost the adapters that were loaded.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        changed: Callable[[bool], None] = lambda up: None,
        prepare: Callable[[], Awaitable[bool]] | None = None,
        every_s: float = 1.0,
    ) -> None:
        self.up = False
        self._engine = engine
        self._changed = changed
        self._prepare = prepare
        self._every_s = every_s
        self._info: EngineInfo | None = None
        self._came_up = asyncio.Event()
        self._unreadable = False

    async def __aenter__(self) -> Self:
        await self._poll()
        self._task = asyncio.create_task(self._watch(), name="engine-monitor")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def info(self) -> EngineInfo:
        """What the engine serves. Raises EngineUnavailable until it has been up once."""
        if self._info is None:
            raise EngineUnavailable(
                "the model is still starting; try again in a moment", retry_after_s=5.0
            )
        return self._info

    @property
    def known(self) -> EngineInfo | None:
        """What the engine serves; None until it has been up once."""
        return self._info

    async def first_up(self) -> None:
        """Wait until the engine is up for the first time."""
        await self._came_up.wait()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._poll()
            except Exception:  # whatever it met, the next round must come
                log.exception("engine_poll_failed")

    async def _poll(self) -> None:
        up = await self._engine.healthy()
        if up and not self.up:
            try:
                self._info = await self._engine.info()
            except (ApiError, KeyError, IndexError, TypeError) as error:
                if not self._unreadable:
                    log.warning("engine_info_unreadable", error=repr(error))
                self._unreadable, up = True, False
            if up and self._prepare is not None:
                up = await self._prepare()
        if up != self.up:
            self.up = up
            self._unreadable = False
            if up:
                self._came_up.set()
            log.info("engine_up" if up else "engine_down")
            self._changed(up)
