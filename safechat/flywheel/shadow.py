"""Opens the guard, and maybe the engine, that a replay runs against."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from server.engine import VllmEngine
from server.errors import ApiError
from server.metrics import Metrics
from server.open_guard import open_guard
from server.settings import Settings
from server.shadow import Sampling, Shadow

__all__ = ["Sampling", "open_shadow"]


@asynccontextmanager
async def open_shadow(
    settings: Settings, sampling: Sampling, *, new_replies: bool
) -> AsyncIterator[Shadow]:
    """What runs recorded turns again. Raises GuardError; ValueError where no engine answers."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        streams = settings.limits.streams
        guard = (await open_guard(settings.guard, streams, metrics.guard, stack)).guard
        if not new_replies:
            yield Shadow(guard, settings.ghost, metrics.turns)
            return
        assert settings.engine.url is not None
        try:
            url = settings.engine.url
            engine = await stack.enter_async_context(VllmEngine(url, settings.engine))
            info = await engine.info()
        except ApiError as error:
            raise ValueError(f"{settings.engine.url}: {error.message}") from error
        yield Shadow(
            guard, settings.ghost, metrics.turns, engine=engine, info=info, sampling=sampling
        )
