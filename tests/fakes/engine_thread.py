"""A scripted engine on a thread of its own, for what runs an event loop by itself."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fakes.scripted_engine import ScriptedEngine


@contextmanager
def serving(engine: ScriptedEngine) -> Iterator[ScriptedEngine]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-engine")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(engine.start(), loop).result(10)
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
