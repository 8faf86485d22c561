"""The queue of review: its order, claims with a lease, and ratings."""

import asyncio

from flywheel.journal import Journal
from flywheel.opinions import DemonstrationRating
from tests.fakes.turns import NOON, flagged_record, turn_record
from tests.integration.memory.stores import Store, queued, rating, report


async def test_the_queue_is_ordered_by_priority_then_arrival(store: Store) -> None:
    journal = await store.open(priority=lambda record: record.prompt.safety or 0.0)
    priorities = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.5}
    for name, priority in priorities.items():
        prompt = {"safety": priority}
        await journal.record(flagged_record(name, prompt=prompt))
    await journal.record(turn_record("unflagged"))
    assert await queued(journal) == ["b", "d", "c", "e", "a"]
    await journal.prioritise("e", 0.95)
    assert await queued(journal) == ["e", "b", "d", "c", "a"]
    await journal.feedback(report("a"))
    assert await queued(journal) == ["a", "e", "b", "d", "c"]


async def test_reviewed_turns_leave_the_queue_and_may_come_back(store: Store) -> None:
    journal = await store.open()
    for name in "abc":
        await journal.record(flagged_record(name))
    await journal.set_reviewed("b")
    assert await queued(journal) == ["a", "c"]
    assert (await journal.turn("b")).reviewed
    store.now += 60
    counters = await journal.counters()
    assert (counters.pending, counters.reviewed) == (2, 1)
    assert counters.oldest_pending_s == 60
    await journal.set_reviewed("b", reviewed=False)
    assert await queued(journal) == ["a", "b", "c"]


async def test_two_raters_never_hold_the_same_item(journal: Journal) -> None:
    raters = [f"r{i}" for i in range(20)]
    granted = await asyncio.gather(*(journal.claim("item-1", r, 60) for r in raters))
    (claim,) = [c for c in granted if c is not None]
    assert await journal.claims(["item-1", "item-2"]) == {"item-1": claim}
    assert await journal.claim("item-2", "r0", 60) is not None


async def test_twenty_raters_share_out_the_items(journal: Journal) -> None:
    items = [f"item-{i}" for i in range(20)]

    async def rater(name: str) -> list[str]:
        return [item for item in items if await journal.claim(item, name, 60) is not None]

    shares = await asyncio.gather(*(rater(f"r{i}") for i in range(20)))
    assert sorted(item for share in shares for item in share) == sorted(items)


async def test_a_lease_that_ran_out_can_be_claimed_again(store: Store) -> None:
    journal = await store.open()
    assert await journal.claim("item-1", "r1", 60) is not None
    assert await journal.claim("item-1", "r2", 60) is None
    store.now += 61
    assert await journal.claims(["item-1"]) == {}
    claim = await journal.claim("item-1", "r2", 60)
    assert claim is not None
    assert claim.rater_id == "r2"
    assert claim.expires == store.now + 60
    assert not await journal.release("item-1", "r1")
    assert await journal.claims(["item-1"]) == {"item-1": claim}


async def test_a_rater_may_extend_and_release_a_claim(store: Store) -> None:
    journal = await store.open()
    await journal.claim("item-1", "r1", 60)
    store.now += 50
    longer = await journal.claim("item-1", "r1", 60)
    assert longer is not None
    assert longer.expires == store.now + 60
    assert await journal.release("item-1", "r1")
    assert not await journal.release("item-1", "r1")
    assert await journal.claim("item-1", "r2", 60) is not None


async def test_ratings_belong_to_item_and_turn(journal: Journal) -> None:
    await journal.record(flagged_record())
    second = rating(rater_id="r2", time=NOON + 3)
    wish = DemonstrationRating(item_id="item-2", rater_id="r1", time=NOON, text="Hello.")
    for said in (rating(), second, wish):
        await journal.add_rating(said)
    assert await journal.ratings("item-1") == [second, rating()]
    assert await journal.ratings("item-2") == [wish]
    assert (await journal.turn("turn-1")).ratings == (second, rating())


async def test_a_rater_who_answers_again_replaces_the_answer(journal: Journal) -> None:
    await journal.record(flagged_record())
    for said in (rating(score=4, time=NOON + 20), rating(score=1, time=NOON + 10)):
        await journal.add_rating(said)
    assert [r.time for r in await journal.ratings("item-1")] == [NOON + 20]
