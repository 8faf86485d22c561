"""What comes of review: false refusals, rates, agreement, and nothing of what was erased."""

import pytest

from flywheel.journal import Journal
from flywheel.records import Outcome
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.errors import NothingToUndo, UnknownItem
from flywheel.review.false_refusals import Finding, State
from flywheel.review.priority import PriorityOptions
from flywheel.review.tasks import Task
from guard.types import Flag
from tests.fakes.turns import NOON, flagged_record
from tests.integration.memory.desks import rate_all, safety, single
from tests.integration.memory.stores import Store


@pytest.mark.parametrize(("false", "state"), [(True, State.CONFIRMED), (False, State.DISMISSED)])
async def test_a_suspected_false_refusal_is_confirmed_or_dismissed(
    journal: Journal, desk: ReviewDesk, found: list[Finding], false: bool, state: State
) -> None:
    await journal.record(flagged_record(flags={Flag.FALSE_REFUSAL}))
    await rate_all(desk, 5, false_refusal=false)
    assert found == []
    await desk.rate("ben", safety(4, false_refusal=false))
    assert [(finding.record.turn_id, finding.state) for finding in found] == [("turn-1", state)]
    assert (await desk.overview()).false_refusals[state] == 1


async def test_an_ordinary_verdict_is_no_finding(
    journal: Journal, desk: ReviewDesk, found: list[Finding]
) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 4, 4)
    assert found == []


async def test_status_counts_items_by_task(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record(time=NOON - 30))
    await journal.record(single("turn-2"))
    await rate_all(desk, 4, 4)
    tallies = (await desk.overview()).tallies
    counted = {task: (tally.pending, tally.reviewed) for task, tally in tallies.items()}
    assert counted == {Task.SAFETY: (1, 1), Task.PREFERENCE: (1, 0), Task.DEMONSTRATION: (2, 0)}
    assert tallies[Task.SAFETY].oldest == NOON
    assert tallies[Task.PREFERENCE].oldest == NOON - 30


async def test_the_sample_tells_the_guards_own_rate(store: Store, journal: Journal) -> None:
    options = ReviewOptions(priority=PriorityOptions(sample=1.0), clock=lambda: store.now)
    desk = ReviewDesk(journal, options)
    for number in range(4):
        name = f"turn-{number}"
        await journal.record(flagged_record(name, outcome=Outcome.BLOCKED_PROMPT))
        if number < 3:
            await rate_all(desk, 5, 5, item_id=f"safety:{name}", false_refusal=number == 0)
    sample = (await desk.overview()).sample
    assert (sample.drawn, sample.settled, sample.confirmed) == (4, 3, 1)
    assert sample.value == pytest.approx(1 / 3)
    assert sample.interval == pytest.approx((0.0615, 0.7923), abs=1e-3)


async def test_agreement_is_reported_by_task(journal: Journal, desk: ReviewDesk) -> None:
    assert await desk.agreement() == {}
    for number in range(3):
        await journal.record(flagged_record(f"turn-{number}"))
        await rate_all(desk, 5, 4 if number else 5, item_id=f"safety:turn-{number}")
    found = await desk.agreement()
    assert list(found) == ["safety"]
    assert found["safety"]["n_paired"] == 3
    assert found["safety"]["ac2"] > found["safety"]["ac1"]


async def test_an_erased_turn_is_gone_from_review(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await desk.rate("ada", safety())
    await journal.erase("garden", "ada")
    assert await desk.claim("ben", task=Task.SAFETY) is None
    with pytest.raises(UnknownItem):
        await desk.rate("ben", safety())
    with pytest.raises(NothingToUndo):
        await desk.undo("ada")
