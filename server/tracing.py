"""Where a turn is traced: four seams, which cost nothing while nobody traces.

`server.spans` traces with OpenTelemetry; `Untraced` is what stands there otherwise.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Protocol

from server.engine import Engine
from server.ledger import Entry
from server.observer import Observer
from server.settings import TracingSettings


class Tracing(Protocol):
    """Makes spans of a request, of what its guard and engine do, and of its record."""

    def request(self, entry: Entry, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Around a whole request. headers: the caller's, which may name a trace to join."""
        ...

    def observer(self, observer: Observer) -> Observer: ...

    def engine(self, engine: Engine) -> Engine: ...

    def outgoing(self) -> Mapping[str, str]:
        """Headers that carry the trace to the engine."""
        ...

    def record(self) -> AbstractContextManager[None]:
        """Around the writing of a record."""
        ...


class Untraced:
    """No traces, and no cost."""

    def request(self, entry: Entry, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def observer(self, observer: Observer) -> Observer:
        return observer

    def engine(self, engine: Engine) -> Engine:
        return engine

    def outgoing(self) -> Mapping[str, str]:
        return {}

    def record(self) -> AbstractContextManager[None]:
        return nullcontext()


async def open_tracing(settings: TracingSettings, stack: AsyncExitStack) -> Tracing:
    """The tracing that the settings describe; what waits to be sent is sent at the end."""
    if settings.endpoint is None:
        return Untraced()
    from server.spans import Spans, exporting  # loads the SDK, for those who use it

    provider = await stack.enter_async_context(exporting(settings))
    return Spans(provider)
