"""Each item is asked once, several at a time, and its answer kept before the next one starts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from rich.progress import Progress

from flywheel.evaluation.runs.answers import Answers, Row
from flywheel.evaluation.runs.endpoint import EndpointFailed, ItemRefused

FAILED = "failed"
"""The key of a row that has nothing but the reason why its item could not be asked."""


class Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


class Interrupted(EndpointFailed):
    """A run that ended early. What is done is kept."""


async def ask_all(
    items: Sequence[T],
    ask: Callable[[T], Awaitable[Row]],
    answers: Answers,
    progress: Progress,
    *,
    parallel: int = 8,
    words: str = "asking",
) -> dict[str, Row]:
    """Ask what is not answered yet. Returns rows by id, in the order of the items.

    An item that the endpoint refuses is kept as failed. Raises Interrupted when an endpoint
    fails for good.
    """
    waiting = iter([item for item in items if item.id not in answers])
    done = sum(item.id in answers for item in items)
    task = progress.add_task(words, total=len(items), completed=done)

    async def work() -> None:
        for item in waiting:
            try:
                row = await ask(item)
            except ItemRefused as refused:
                row = {FAILED: str(refused)}
            answers.add(item.id, row)
            progress.advance(task)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(work())
    except* (EndpointFailed, OSError) as failures:
        kept = sum(item.id in answers for item in items)
        raise Interrupted(
            f"{failures.exceptions[0]}; {kept} of {len(items)} items are kept, and the same "
            "command goes on from there"
        ) from failures.exceptions[0]
    return {item.id: answers[item.id] for item in items}
