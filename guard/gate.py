"""The streaming gate: what of an unfinished reply may be shown.

A pure state machine without I/O. Push text as it arrives, ask which checkpoints are due,
settle each with a verdict, and release what is covered:

    gate.push("Boil the ")         text from the engine, split anyhow
    for c in gate.due(): ...       judge gate.excerpt(c)
    gate.settle(c, Verdict.ALLOW)  in order
    gate.released                  so many characters may be shown

Where a reply is judged is a function of its text alone: never of how it was split, how
fast it came, or how many checkpoints were pending at once. So a streamed and an
unstreamed reply get the same verdict at the same character. Each judged excerpt is
bounded, so a reply of n characters costs at most four times n judged characters.
"""

import re
from collections import deque
from dataclasses import dataclass

from guard.types import Verdict

_VISIBLE = re.compile(r"\S")
_WORD_END = re.compile(r"(?<=\S)(?=\s)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where a reply is judged, in characters (an English token has about four).

    The first checkpoint is the first visible character: it tells the user that the reply
    has begun, and needs no further token to be recognised, as the end of a word would. The
    next ones are word ends at growing distances. A word end is waited for, but not longer
    than `reach`: text without spaces is cut.
    """

    distances: tuple[int, ...] = (16, 48, 128)
    cap: int = 192
    reach: int = 64
    window: int = 640

    def __post_init__(self) -> None:
        if min(*self.distances, self.cap, self.reach) < 1:
            raise ValueError("checkpoint distances must be at least one character")
        if self.window < 2 * (max(*self.distances, self.cap) + self.reach):
            raise ValueError("the window must cover two checkpoint distances and their reach")

    def distance(self, index: int) -> int:
        """Characters from checkpoint `index - 1`, `index` at least 1, to the search for `index`."""
        return self.distances[index - 1] if index <= len(self.distances) else self.cap


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point of the reply at which `text[start:end]` is judged.

    Allowing it releases everything before `end`. `final`: the reply ends here.
    """

    index: int
    start: int
    end: int
    final: bool = False


class Gate:
    """Holds one reply back until verdicts cover it."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule or Schedule()
        self._text = ""
        self._reached = 0
        self._target = 0
        self._due: list[Checkpoint] = []
        self._unsettled: deque[Checkpoint] = deque()
        self._finished = False
        self.released = 0
        self.blocked = False
        self.done = False

    @property
    def text(self) -> str:
        """The whole reply as it arrived, shown or not."""
        return self._text

    @property
    def held(self) -> int:
        """Characters that have arrived and are not released."""
        return len(self._text) - self.released

    def push(self, text: str) -> None:
        """Take what the engine said next. Ignored once blocked: nothing more can be shown."""
        if self._finished:
            raise ValueError("the reply is finished")
        if self.blocked:
            return
        self._text += text
        while len(self._text) > self._target:
            end = self._next_end()
            if end is None:
                return
            self._reach(end, final=False)

    def finish(self) -> None:
        """The reply is complete: its end is the last checkpoint."""
        if self._finished:
            raise ValueError("the reply is finished")
        self._finished = True
        if not self.blocked:
            self._reach(len(self._text), final=True)

    def due(self) -> list[Checkpoint]:
        """Checkpoints reached since the last call, in order."""
        due, self._due = self._due, []
        return due

    def excerpt(self, checkpoint: Checkpoint) -> str:
        """The text that a checkpoint judges."""
        return self._text[checkpoint.start : checkpoint.end]

    def settle(self, checkpoint: Checkpoint, verdict: Verdict) -> None:
        """Apply a verdict. Checkpoints are settled in order; after a block, never."""
        if self.blocked or not self._unsettled or self._unsettled[0] != checkpoint:
            raise ValueError(f"checkpoint {checkpoint.index} is not the next to settle")
        self._unsettled.popleft()
        if verdict is Verdict.BLOCK:
            self.blocked = self.done = True
            self._due.clear()
            self._unsettled.clear()
            return
        self.released = checkpoint.end
        self.done = checkpoint.final

    def _next_end(self) -> int | None:
        limit = self._target + self._schedule.reach
        landmark = _WORD_END if self._reached else _VISIBLE
        found = landmark.search(self._text, self._target, limit)
        if found is not None:
            return found.end()
        return limit if len(self._text) > limit else None

    def _reach(self, end: int, *, final: bool) -> None:
        checkpoint = Checkpoint(self._reached, self._excerpt_start(end), end, final)
        self._due.append(checkpoint)
        self._unsettled.append(checkpoint)
        self._reached += 1
        self._target = end + self._schedule.distance(self._reached)

    def _excerpt_start(self, end: int) -> int:
        start = end - self._schedule.window
        if start <= 0:
            return 0
        word = _WORD_END.search(self._text, start, start + self._schedule.reach)
        return word.start() if word is not None else start
