"""What a journal keeps, for how long, and in which words."""

import asyncio

import pytest

from flywheel.journal import DAY_S, Keep, entries
from flywheel.opinions import FeedbackKind
from flywheel.records import Outcome
from tests.fakes.turns import NOON, SECRET, flagged_record, turn_record
from tests.integration.memory.stores import Store, ids, queued, rating, report, sweep_all


async def test_content_of_an_unflagged_turn_stays_for_a_day(store: Store) -> None:
    journal = await store.open()
    await journal.record(turn_record())
    store.now += DAY_S - 1
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == turn_record()
    store.now += 2
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == turn_record().without_content()


async def test_content_of_a_flagged_turn_stays(store: Store) -> None:
    journal = await store.open()
    await journal.record(flagged_record())
    store.now += 30 * DAY_S
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == flagged_record()


@pytest.mark.parametrize("kind", FeedbackKind)
async def test_content_stays_once_its_user_spoke(store: Store, kind: FeedbackKind) -> None:
    journal = await store.open()
    await journal.record(turn_record())
    await journal.feedback(report(kind=kind))
    store.now += 2 * DAY_S
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record.content is not None


async def test_without_grace_content_is_never_stored(store: Store) -> None:
    journal = await store.open(grace_s=0)
    await journal.record(turn_record())
    assert (await journal.turn("turn-1")).record == turn_record().without_content()


@pytest.mark.parametrize(
    ("keep", "sample", "least", "most"),
    [
        (Keep.FLAGGED, 0.0, 0, 0),
        (Keep.ALL, 0.0, 100, 100),
        (Keep.SAMPLE, 0.5, 30, 70),
    ],
)
async def test_how_much_content_is_kept(
    store: Store, keep: Keep, sample: float, least: int, most: int
) -> None:
    journal = await store.open(keep=keep, sample=sample, grace_s=0)
    records = [turn_record(f"turn-{i}") for i in range(100)]
    await asyncio.gather(*map(journal.record, records))
    kept = [e.record.turn_id async for e in entries(journal) if e.record.content]
    assert least <= len(kept) <= most
    again = await store.open(keep=keep, sample=sample, grace_s=0)
    await asyncio.gather(*map(again.record, records))
    assert set(kept) == {e.record.turn_id async for e in entries(again) if e.record.content}


async def test_turns_past_their_age_go_with_all_that_belongs_to_them(store: Store) -> None:
    journal = await store.open(max_age_s=7 * DAY_S)
    await journal.record(flagged_record("old", time=NOON - 8 * DAY_S))
    await journal.feedback(report("old"))
    await journal.add_rating(rating(turn_id="old"))
    await journal.record(flagged_record("young"))
    await sweep_all(journal)
    assert await ids(journal) == ["young"]
    assert await queued(journal) == ["young"]
    assert await journal.ratings("item-1") == []
    assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 2}


async def test_too_large_a_journal_forgets_the_oldest_unflagged_turns(store: Store) -> None:
    journal = await store.open(max_bytes=800_000)
    for first in range(0, 700, 100):
        make = flagged_record if first == 0 else turn_record
        some = [make(f"turn-{i}") for i in range(first, first + 100)]
        await asyncio.gather(*map(journal.record, some))
    await sweep_all(journal)
    left = [int(name.removeprefix("turn-")) for name in await ids(journal)]
    assert 100 < len(left) < 700
    assert set(left[:100]) == set(range(100))
    assert min(left[100:]) > 100, "the oldest went"
    assert max(left) >= 600


async def test_text_is_redacted_before_it_is_stored(store: Store) -> None:
    journal = await store.open(redact=lambda text: text.replace(SECRET, "[secret]"))
    await journal.record(flagged_record())
    await journal.feedback(report(text=f"You told: {SECRET}"))
    entry = await journal.turn("turn-1", "ada")
    assert SECRET not in entry.record.model_dump_json()
    assert entry.record.messages is not None
    assert entry.record.messages[0].text == "Remember: [secret]."
    assert entry.record.choices[0].reply == "I shall: [secret]."
    assert entry.record.attempts[0].reply == "No: [secret]?"
    assert entry.feedback[0].text == "You told: [secret]"
