"""Review desks, and what raters say at them."""

from typing import Any, Final

from flywheel.journal import Journal
from flywheel.opinions import Side, Strength
from flywheel.records import TurnRecord
from flywheel.review.answers import PreferenceAnswer, SafetyAnswer
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.priority import PriorityOptions
from flywheel.review.tasks import Task
from flywheel.review.views import ItemView
from tests.fakes.turns import flagged_record
from tests.integration.memory.stores import Store

ONE: Final = "safety:turn-1"
PAIR: Final = "preference:turn-1"


def single(turn_id: str = "turn-1", **changes: Any) -> TurnRecord:
    """A flagged turn with one reply: there is nothing yet to compare it with."""
    return flagged_record(turn_id, attempts=(), **changes)


def open_desk(store: Store, journal: Journal, **more: Any) -> ReviewDesk:
    options = ReviewOptions(
        lease_s=60, clock=lambda: store.now, priority=PriorityOptions(sample=0.0)
    )
    return ReviewDesk(journal, options, **more)


def safety(score: int = 4, item_id: str = ONE, **more: Any) -> SafetyAnswer:
    return SafetyAnswer(task="safety", item_id=item_id, score=score, **more)


def prefers(side: Side = Side.LEFT, **more: Any) -> PreferenceAnswer:
    said = {"left_safe": True, "right_safe": True, "strength": Strength.BETTER, **more}
    return PreferenceAnswer(task="preference", item_id=PAIR, chosen=side, **said)


async def next_safety(desk: ReviewDesk, rater: str) -> ItemView:
    item = await desk.claim(rater, task=Task.SAFETY)
    assert item is not None
    return item


async def rate_all(desk: ReviewDesk, *scores: int, **more: Any) -> None:
    for number, score in enumerate(scores):
        await desk.rate(f"rater-{number}", safety(score, **more))
