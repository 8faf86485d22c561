"""From a suspicion to a finding: what raters made of a refusal."""

from dataclasses import dataclass
from enum import StrEnum

from flywheel.journal import Entry
from flywheel.records import TurnRecord
from flywheel.review.rounds import Panel, Verdict, progress
from flywheel.review.tasks import Task
from guard.types import Flag


class State(StrEnum):
    """suspected: a rule doubts the refusal. confirmed, dismissed: raters have decided."""

    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Finding:
    """Raters have decided about a refusal: confirmed or dismissed."""

    record: TurnRecord
    state: State


def state_of(entry: Entry, panel: Panel) -> State | None:
    """The state of a turn's refusal; None: nobody doubts it, or there is none."""
    return decided(entry.record, progress(entry, Task.SAFETY, panel).verdict)


def decided(record: TurnRecord, verdict: Verdict | None) -> State | None:
    """The state under a verdict on safety; None as verdict: still open.

    A false refusal that no rule suspected, such as one drawn by lot, is confirmed all the same.
    """
    if verdict is not None and verdict["false_refusal"]:
        return State.CONFIRMED
    if not record.flags & {Flag.FALSE_REFUSAL, Flag.GUARD_APPEAL}:
        return None
    return State.SUSPECTED if verdict is None else State.DISMISSED
