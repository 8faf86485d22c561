"""Who gets which item: claims with a lease, and a queue that says why."""

import asyncio

import pytest

from flywheel.journal import Journal
from flywheel.opinions import Feedback, FeedbackKind
from flywheel.records import Outcome
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.errors import Held
from flywheel.review.priority import PriorityOptions, priority
from flywheel.review.tasks import Task
from guard.types import Flag
from tests.fakes.turns import NOON, flagged_record, turn_record
from tests.integration.memory.desks import ONE, next_safety, open_desk, safety
from tests.integration.memory.stores import Store


async def test_no_two_raters_hold_the_same_item(journal: Journal, desk: ReviewDesk) -> None:
    for number in range(8):
        await journal.record(flagged_record(f"turn-{number}"))
    held = await asyncio.gather(*(next_safety(desk, f"rater-{n}") for n in range(8)))
    assert len({item.item_id for item in held}) == 8
    assert await desk.claim("late", task=Task.SAFETY) is None


async def test_a_claim_that_ran_out_can_be_had_by_another(
    store: Store, journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    assert (await next_safety(desk, "ada")).claim_expires == NOON + 60
    assert await desk.claim("ben", task=Task.SAFETY) is None
    with pytest.raises(Held):
        await desk.claim("ben", item_id=ONE)
    store.now += 61
    assert (await next_safety(desk, "ben")).item_id == ONE
    with pytest.raises(Held):
        await desk.rate("ada", safety())


async def test_an_answer_after_the_lease_counts_while_nobody_else_holds_the_item(
    store: Store, journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await next_safety(desk, "ada")
    store.now += 61
    await desk.rate("ada", safety())
    assert len(await journal.ratings(ONE)) == 1


async def test_an_item_that_is_let_go_is_free(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await next_safety(desk, "ada")
    assert await desk.release("ada", ONE)
    assert not await desk.release("ada", ONE)
    assert (await next_safety(desk, "ben")).item_id == ONE


async def test_gateways_that_share_a_journal_share_claims(store: Store, journal: Journal) -> None:
    await journal.record(flagged_record())
    here, there = open_desk(store, journal), open_desk(store, journal)
    await next_safety(here, "ada")
    assert await there.claim("ben", task=Task.SAFETY) is None


async def test_the_queue_is_ordered_and_says_why(store: Store, journal: Journal) -> None:
    desk = open_desk(store, journal)
    for name, flags in (("plain", {Flag.REFUSAL}), ("asked", {Flag.GUARD_APPEAL})):
        await journal.record(flagged_record(name, flags=flags))
    first, second = await desk.queue("ada", Task.SAFETY)
    await desk.rate("ada", safety(item_id="safety:plain"))
    assert {first.item_id, second.item_id} == {"safety:plain", "safety:asked"}
    assert [item.position for item in (first, second)] == [1, 2]
    assert all(item.reasons for item in (first, second))


async def test_the_journal_orders_by_priority(store: Store) -> None:
    journal = await store.open(priority=lambda record: priority(record).number)
    desk = open_desk(store, journal)
    for name, flag in (("plain", Flag.UNHELPFUL), ("declined", Flag.FALSE_REFUSAL)):
        await journal.record(flagged_record(name, flags={flag}))
    await journal.record(turn_record("reported"))
    said = Feedback.of("reported", "ada", FeedbackKind.REPORT, NOON)
    await journal.feedback(said)
    queue = await desk.queue("ada", Task.SAFETY)
    assert [i.item_id for i in queue] == ["safety:reported", "safety:declined", "safety:plain"]


async def test_the_queue_marks_what_others_hold(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await next_safety(desk, "ada")
    assert [item.claimed for item in await desk.queue("ben", Task.SAFETY)] == [True]
    assert [item.claimed for item in await desk.queue("ada", Task.SAFETY)] == [False]


async def test_a_drawn_block_says_that_it_was_drawn(store: Store, journal: Journal) -> None:
    options = ReviewOptions(priority=PriorityOptions(sample=1.0))
    await journal.record(flagged_record(outcome=Outcome.BLOCKED_PROMPT))
    (item,) = await ReviewDesk(journal, options).queue("ada", Task.SAFETY)
    assert "sample" in [reason.reason for reason in item.reasons]
