"""What a key made is its own: others may not touch it, and it may erase it for good."""

import pytest

from flywheel.journal import Journal, NotYours, UnknownTurn
from flywheel.records import Outcome
from tests.fakes.turns import flagged_record, turn_record
from tests.integration.memory.stores import ids, queued, rating, report


async def test_another_key_is_refused(journal: Journal) -> None:
    await journal.record(turn_record())
    with pytest.raises(NotYours):
        await journal.turn("turn-1", "bob")
    with pytest.raises(NotYours):
        await journal.feedback(report(key_id="bob"))
    with pytest.raises(NotYours):
        await journal.erase("garden", "bob")
    assert (await journal.turn("turn-1", "ada")).record == turn_record()


async def test_feedback_of_another_key_that_came_first_is_dropped(journal: Journal) -> None:
    await journal.feedback(report(key_id="bob"))
    await journal.record(turn_record())
    entry = await journal.turn("turn-1")
    assert entry.record.flags == frozenset()
    assert entry.feedback == ()


async def test_an_unknown_turn_is_unknown(journal: Journal) -> None:
    with pytest.raises(UnknownTurn):
        await journal.turn("nobody", "ada")
    with pytest.raises(UnknownTurn):
        await journal.set_reviewed("nobody")
    with pytest.raises(UnknownTurn):
        await journal.prioritise("nobody", 0.5)
    with pytest.raises(UnknownTurn):
        await journal.add_rating(rating(turn_id="nobody"))


async def test_an_erased_conversation_is_gone_everywhere(journal: Journal) -> None:
    for name in ("turn-1", "turn-2"):
        await journal.record(flagged_record(name))
    await journal.record(flagged_record("elsewhere", conversation_id="kitchen"))
    await journal.record(flagged_record("another's", key_id="bob"))
    await journal.feedback(report())
    await journal.add_rating(rating())
    assert await journal.erase("garden", "ada") == 2
    assert await ids(journal) == ["elsewhere", "another's"]
    assert sorted(await queued(journal)) == ["another's", "elsewhere"]
    assert await journal.ratings("item-1") == []
    with pytest.raises(UnknownTurn):
        await journal.turn("turn-1", "ada")
    (stone,) = await journal.tombstones()
    assert (stone.key_id, stone.conversation) == ("ada", "garden")
    assert stone.turn_ids == ("turn-1", "turn-2")


async def test_what_comes_after_an_erasure_stays_out(journal: Journal) -> None:
    await journal.record(turn_record())
    await journal.erase("garden", "ada")
    await journal.record(turn_record())
    await journal.record(flagged_record("late"))
    assert await ids(journal) == []
    with pytest.raises(UnknownTurn):
        await journal.feedback(report())
    with pytest.raises(UnknownTurn):
        await journal.add_rating(rating())
    assert (await journal.tombstones())[0].turn_ids == ("late", "turn-1")
    assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 2}


async def test_a_turn_without_a_conversation_is_erased_by_its_id(journal: Journal) -> None:
    await journal.record(turn_record("alone", conversation_id=None))
    assert await journal.erase("alone", "ada") == 1
    assert await ids(journal) == []


async def test_erasing_twice_is_erasing_once(journal: Journal) -> None:
    await journal.record(turn_record())
    assert await journal.erase("garden", "ada") == 1
    assert await journal.erase("garden", "ada") == 0
