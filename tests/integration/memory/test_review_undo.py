"""Items are skipped, and answers are taken back."""

import pytest

from flywheel.journal import Journal
from flywheel.review.desk import ReviewDesk
from flywheel.review.errors import NothingToUndo
from flywheel.review.tasks import Task
from tests.fakes.turns import flagged_record
from tests.integration.memory.desks import ONE, next_safety, safety
from tests.integration.memory.stores import Store


async def test_what_is_skipped_is_not_offered_again(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await next_safety(desk, "ada")
    await desk.skip("ada", ONE)
    assert await desk.claim("ada", task=Task.SAFETY) is None
    assert await desk.queue("ada", Task.SAFETY) == []
    assert (await next_safety(desk, "ben")).item_id == ONE
    await desk.release("ben", ONE)
    named = await desk.claim("ada", item_id=ONE)
    assert named is not None


async def test_the_last_answer_can_be_taken_back(
    store: Store, journal: Journal, desk: ReviewDesk
) -> None:
    for name in ("turn-1", "turn-2"):
        await journal.record(flagged_record(name))
        store.now += 1
        await desk.rate("ada", safety(item_id=f"safety:{name}"))
    await desk.rate("ben", safety(item_id="safety:turn-2"))
    assert (await journal.turn("turn-2")).reviewed
    assert await desk.undo("ada") == "safety:turn-2"
    assert [r.rater_id for r in await journal.ratings("safety:turn-2")] == ["ben"]
    assert not (await journal.turn("turn-2")).reviewed
    assert await desk.undo("ada") == ONE
    with pytest.raises(NothingToUndo):
        await desk.undo("ada")


async def test_what_was_taken_back_can_be_said_anew(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await desk.rate("ada", safety(1))
    await desk.undo("ada", ONE)
    assert (await desk.item("ada", ONE)).details is None
    await desk.rate("ada", safety(5))
    assert len((await journal.turn("turn-1")).ratings) == 1
