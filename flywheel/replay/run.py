"""Runs a journal's turns again, several at a time, and adds up what would change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flywheel.journal import Journal, entries
from flywheel.records import Outcome, TurnRecord
from flywheel.replay.outlook import LeftOut, Outlook
from flywheel.replay.report import Report
from flywheel.replay.trail import Found, Trail


@dataclass(frozen=True, slots=True)
class Selection:
    """Which turns. flagged: those alone. limit: so many of them, the oldest."""

    flagged: bool = False
    limit: int | None = None


async def replay(
    journal: Journal,
    again: Callable[[TurnRecord], Awaitable[TurnRecord]],
    report: Report,
    *,
    selection: Selection,
    at_once: int,
    trail: Trail | None = None,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Fill the report; when it is cancelled, the report has what was found by then.

    Turns that arrive meanwhile are left alone: a gateway that is asked records what it answers,
    maybe in this very journal.

    Raises JournalUnavailable; OSError where the trail cannot be written.

    again: the same turn as it would be recorded now; a ValueError says that it cannot be asked.
    trail: where earlier runs left off, and where this one writes.
    """
    done = set[str]()

    def take(found: Found) -> None:
        report.add(found)
        progress()

    for earlier in trail.earlier() if trail else ():
        done.add(earlier.turn_id)
        take(earlier)

    async def one(record: TurnRecord) -> None:
        try:
            found = await _compared(record, again)
            if trail is not None:
                trail.add(found)
            take(found)
        finally:
            free.release()

    free, seen, last = asyncio.Semaphore(at_once), 0, await journal.last_seq()
    try:
        async with asyncio.TaskGroup() as tasks:
            async for entry in entries(journal, flagged=selection.flagged):
                if seen == selection.limit or entry.seq > last:
                    break
                seen += 1
                if entry.record.turn_id not in done:
                    await free.acquire()
                    tasks.create_task(one(entry.record))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def _compared(
    record: TurnRecord, again: Callable[[TurnRecord], Awaitable[TurnRecord]]
) -> Found:
    if record.outcome is Outcome.REJECTED or record.prompt.safety is None:
        return LeftOut(turn_id=record.turn_id, reason="never_judged")
    if not record.messages:
        return LeftOut(turn_id=record.turn_id, reason="without_text")
    try:
        return Outlook.of(record, await again(record))
    except ValueError:
        return LeftOut(turn_id=record.turn_id, reason="cannot_be_asked_again")
