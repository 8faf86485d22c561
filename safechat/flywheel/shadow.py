"""Opens the guard, and maybe the engine, that a replay runs against."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from server.chat_api import ChatApi
from server.engine import KEY_REFUSED
from server.errors import ApiError
from server.metrics import Metrics
from server.open_guard import open_guard
from server.settings import Settings
from server.shadow import Sampling, Shadow

__all__ = ["Sampling", "open_shadow"]


@asynccontextmanager
async def open_shadow(
    settings: Settings, sampling: Sampling, *, new_replies: bool, model: str | None = None
) -> AsyncIterator[Shadow]:
    """What runs recorded turns again. model: the one that makes new replies, where there are more.

    Raises GuardError; ValueError where no engine answers.
    """
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
            engine = await stack.enter_async_context(ChatApi(url, settings.engine, model=model))
            info = await engine.info()
        except ApiError as error:
            hint = ", in OPENAI_API_KEY" if error.code == KEY_REFUSED else ""
            raise ValueError(f"{settings.engine.url}: {error.message}{hint}") from error
        yield Shadow(
            guard, settings.ghost, metrics.turns, engine=engine, info=info, sampling=sampling
        )
