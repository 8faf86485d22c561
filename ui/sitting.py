"""One rater's sitting: what is done on the page happens one thing at a time, as it was done.

Gradio runs every event by itself. Of two things done within a moment either could begin first,
and either be answered last, so that the page would show one item while another one is held.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


class Overtaken(Exception):
    """Something newer was done already, or the item that this was about is no longer shown."""


@dataclass(slots=True)
class Sitting:
    """What a rater holds or has just answered. `item` is the API's, as JSON."""

    item: dict[str, Any] | None = None
    _latest: float = 0.0
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def in_turn(self, seen: str) -> AsyncIterator[None]:
        """Wait for what was done before. Raises Overtaken when something newer has begun.

        seen: what `seen_js` sent.
        """
        done_at, _ = json.loads(seen)
        async with self._one:
            if done_at < self._latest:
                raise Overtaken
            self._latest = done_at
            yield

    def item_seen(self, seen: str) -> dict[str, Any] | None:
        """The item, if it is the one that the rater saw; raises Overtaken if it is another."""
        _, item_id = json.loads(seen)
        if item_id != (self.item["item_id"] if self.item else None):
            raise Overtaken
        return self.item


def seen_js(inputs: int) -> str:
    """JavaScript that makes the first of an event's inputs say when it was done, and to what.

    inputs: how many the event has. `[milliseconds since the page was opened, item or null]`.
    """
    item = "document.querySelector('.item')?.dataset.item ?? null"
    seen = f"JSON.stringify([performance.now(), {item}])"
    return f"(...given) => [{seen}, ...given.slice(1, {inputs})]"
