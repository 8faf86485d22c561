"""What a scripted engine does with one request: what it says, how fast, and how it goes wrong."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Delta = str | Mapping[str, Any]
Splitter = Callable[[bytes], Iterable[bytes]]


class Ending(StrEnum):
    """What follows the deltas."""

    DONE = "done"  # finish event, usage, [DONE]
    NO_DONE = "no_done"  # the same, but the body ends before [DONE]
    CUT = "cut"  # the body ends cleanly after the last delta
    RESET = "reset"  # the connection breaks after the last delta
    STALL = "stall"  # nothing more is ever sent


@dataclass(frozen=True, kw_only=True)
class Script:
    """How the engine answers one request.

    deltas: one sequence of deltas per choice; a str is text, a mapping is sent as the
        delta object itself (tool calls, reasoning). A request for more choices than
        there are sequences starts again from the first.
    finish_reason: as in vLLM, "length" travels with the last delta, any other reason
        in an event of its own with empty content.
    open_delay, first_delay, delay: seconds before the response headers, between them and
        the first event, and between events.
    pause: waited for when half of the events are sent.
    status, error: an answer other than 200; text becomes vLLM's JSON error, bytes are
        sent as they are.
    tail: bytes in place of the finish and usage events (see `GARBAGE`, `error_event`).
    split: cuts each event into the pieces that are written one by one; with
        `split_whole` it cuts the stream as a whole, so that pieces may span events.
    """

    deltas: Sequence[Sequence[Delta]] = (("Hello", " there", "."),)
    finish_reason: str = "stop"
    open_delay: float = 0.0
    first_delay: float = 0.0
    delay: float = 0.0
    pause: asyncio.Event | None = None
    status: int = 200
    error: str | bytes = "The script says so."
    tail: bytes | None = None
    ending: Ending = Ending.DONE
    split: Splitter | None = None
    split_whole: bool = False

    @classmethod
    def words(cls, *texts: str, **how: Any) -> "Script":
        """One choice per text, one delta per word, its leading white space with it."""
        return cls(deltas=tuple(tuple(_words(text)) for text in texts), **how)

    def choice(self, index: int) -> Sequence[Delta]:
        return self.deltas[index % len(self.deltas)]


def _words(text: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(text)):
        if text[at].isspace() and not text[at - 1].isspace():
            yield text[start:at]
            start = at
    yield text[start:]


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def pieces_of(size: int) -> Splitter:
    """Cuts into pieces of `size` bytes, in the middle of characters if need be."""
    return lambda data: (data[at : at + size] for at in range(0, len(data), size))


def tool_call(index: int, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    """A tool-call delta; with a name it opens the call, without one it continues it."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    opening = {} if name is None else {"id": f"chatcmpl-tool-{index}", "type": "function"}
    return {"tool_calls": [{**opening, "index": index, "function": function}]}
