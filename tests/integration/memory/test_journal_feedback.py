"""Feedback joins its turn, whichever comes first."""

import pytest

from flywheel.journal import DAY_S, PENDING_PER_KEY, Journal, UnknownTurn
from flywheel.opinions import FeedbackKind
from guard.types import Flag
from tests.fakes.turns import flagged_record, turn_record
from tests.integration.memory.stores import Store, ids, queued, report, sweep_all


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        (FeedbackKind.REPORT, Flag.USER_REPORT),
        (FeedbackKind.APPEAL, Flag.GUARD_APPEAL),
        (FeedbackKind.THUMBS_DOWN, Flag.UNHELPFUL),
    ],
)
async def test_feedback_flags_its_turn(journal: Journal, kind: FeedbackKind, flag: Flag) -> None:
    await journal.record(turn_record())
    assert await journal.feedback(report(kind=kind))
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == {flag}
    assert entry.feedback == (report(kind=kind),)
    assert await queued(journal) == ["turn-1"]
    assert await ids(journal, flagged=True) == ["turn-1"]


async def test_praise_flags_nothing(journal: Journal) -> None:
    await journal.record(turn_record())
    await journal.feedback(report(kind=FeedbackKind.THUMBS_UP))
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == frozenset()
    assert len(entry.feedback) == 1


async def test_feedback_twice_is_feedback_once(journal: Journal) -> None:
    await journal.record(turn_record())
    for _ in range(2):
        assert await journal.feedback(report())
    assert (await journal.turn("turn-1", "ada")).feedback == (report(),)


async def test_of_changing_opinions_the_last_holds(journal: Journal) -> None:
    up, down = FeedbackKind.THUMBS_UP, FeedbackKind.THUMBS_DOWN
    await journal.record(turn_record())
    for time, kind in enumerate((up, down, up)):
        await journal.feedback(report(kind=kind, time=time, text=""))
    feedback = (await journal.turn("turn-1", "ada")).feedback
    assert [said.kind for said in feedback] == [down, up]


async def test_feedback_waits_for_its_turn(journal: Journal) -> None:
    assert not await journal.feedback(report())
    await journal.record(turn_record())
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == {Flag.USER_REPORT}
    assert entry.feedback == (report(),)


async def test_only_so_much_feedback_waits(journal: Journal) -> None:
    for i in range(PENDING_PER_KEY):
        assert not await journal.feedback(report(f"future-{i}"))
    with pytest.raises(UnknownTurn):
        await journal.feedback(report("one-too-many"))
    assert not await journal.feedback(report("anybody-else's", key_id="bob"))


async def test_feedback_does_not_wait_for_ever(store: Store) -> None:
    journal = await store.open()
    await journal.feedback(report(time=store.now))
    store.now += 2 * DAY_S
    await sweep_all(journal)
    await journal.record(turn_record())
    assert (await journal.turn("turn-1", "ada")).feedback == ()


async def test_a_report_after_review_asks_for_another(journal: Journal) -> None:
    await journal.record(flagged_record())
    await journal.set_reviewed("turn-1")
    assert await queued(journal) == []
    await journal.feedback(report())
    assert await queued(journal) == ["turn-1"]
    await journal.set_reviewed("turn-1")
    await journal.feedback(report())
    assert await queued(journal) == [], "the same report again says nothing new"
