"""The end of tasks that run beside others."""

import asyncio
from typing import Any, Final

_AGAIN_S: Final = 0.1


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended. Raises what one of them raised.

    Once is not enough: in Python 3.11 `asyncio.wait_for`, under which Redis is asked, loses a
    cancellation that arrives together with the answer, and the task would go on for ever.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.result()
