"""All flagged turns at a glance: how much waits and is done, and what raters have said so far.

It reads the whole journal, a page at a time, so its answer is kept for a few seconds.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from flywheel.journal import Entry, Journal, entries
from flywheel.opinions import Rating
from flywheel.review.false_refusals import State, decided
from flywheel.review.priority import drawn
from flywheel.review.rounds import Panel, progress
from flywheel.review.tasks import Task, can_be_asked

_FRESH_S: Final = 10.0
_Z: Final = 1.96


@dataclass(slots=True)
class Tally:
    """One task in numbers: items that wait, those of them in adjudication, and settled ones.

    oldest: UTC epoch seconds of the oldest turn that waits.
    """

    pending: int = 0
    adjudication: int = 0
    reviewed: int = 0
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A share of some number, with its 95 % interval (Wilson's score)."""

    drawn: int
    settled: int
    confirmed: int

    @property
    def value(self) -> float | None:
        return self.confirmed / self.settled if self.settled else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.settled:
            return None
        n, p = self.settled, self.confirmed / self.settled
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(slots=True)
class Overview:
    """What the survey found.

    sample: blocks drawn by lot, those settled, and those found to be false refusals.
    waiting: by task, the turns whose flag is settled and that still wait for this task, in the
    order of the queue.
    """

    tallies: dict[Task, Tally] = field(default_factory=lambda: {task: Tally() for task in Task})
    false_refusals: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    sample: Share = Share(0, 0, 0)
    ratings: list[Rating] = field(default_factory=list)
    waiting: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)


class Survey:
    """Reads all flagged turns when it must, and once for all who ask at the same time."""

    def __init__(
        self,
        journal: Journal,
        *,
        panel: Panel,
        sample: float,
        second_replies: bool,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._panel = panel
        self._share = sample
        self._second_replies = second_replies
        self._clock = clock
        self._reading = asyncio.Lock()
        self._read_at: float | None = None
        self._overview = Overview()

    def forget(self) -> None:
        """Something has changed: the next answer is a fresh one."""
        self._read_at = None

    async def overview(self, *, fresh: bool = False) -> Overview:
        """Raises JournalUnavailable."""
        async with self._reading:
            if fresh or self._read_at is None or self._clock() - self._read_at > _FRESH_S:
                self._read_at = self._clock()
                self._overview = await self._read()
            return self._overview

    async def _read(self) -> Overview:
        found = Overview()
        waiting: dict[Task, list[tuple[int, str]]] = {task: [] for task in Task}
        async for entry in entries(self._journal, flagged=True):
            found.ratings += entry.ratings
            for task in Task:
                if self._count(found, entry, task) and entry.reviewed:
                    waiting[task].append((entry.rank, entry.record.turn_id))
            self._count_refusal(found, entry)
        found.waiting = {task: tuple(turn for _, turn in sorted(waiting[task])) for task in Task}
        return found

    def _count(self, found: Overview, entry: Entry, task: Task) -> bool:
        """Count one item; whether it is open."""
        if not can_be_asked(task, entry, second_replies=self._second_replies):
            return False
        tally, standing = found.tallies[task], progress(entry, task, self._panel)
        if not standing.open:
            tally.reviewed += 1
            return False
        tally.pending += 1
        tally.adjudication += standing.adjudication
        oldest = entry.record.time if tally.oldest is None else tally.oldest
        tally.oldest = min(oldest, entry.record.time)
        return True

    def _count_refusal(self, found: Overview, entry: Entry) -> None:
        verdict = progress(entry, Task.SAFETY, self._panel).verdict
        state = decided(entry.record, verdict)
        if state is not None:
            found.false_refusals[state] += 1
        if drawn(entry.record, self._share):
            had = found.sample
            found.sample = Share(
                had.drawn + 1,
                had.settled + (verdict is not None),
                had.confirmed + (state is State.CONFIRMED),
            )
