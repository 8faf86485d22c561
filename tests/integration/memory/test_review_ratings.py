"""How ratings settle an item, and who may see what before answering."""

import pytest

from flywheel.journal import Journal
from flywheel.opinions import Feedback, FeedbackKind
from flywheel.review.desk import ReviewDesk
from flywheel.review.errors import AlreadyRated, NothingToUndo, RoundClosed, Settled, UnknownItem
from flywheel.review.tasks import Task
from guard.types import Flag
from tests.fakes.turns import NOON, SECRET, flagged_record, turn_record
from tests.integration.memory.desks import ONE, PAIR, next_safety, rate_all, safety
from tests.integration.memory.stores import Store


async def test_a_rater_is_blind_until_he_has_answered(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record(flags={Flag.FALSE_REFUSAL, Flag.REFUSAL}))
    await journal.feedback(Feedback.of("turn-1", "ada", FeedbackKind.APPEAL, NOON, "Please!"))
    await desk.rate("ada", safety(1))
    blind = await next_safety(desk, "ben")
    assert blind.messages[-1].content == f"Remember: {SECRET}."
    assert blind.reply == f"I shall: {SECRET}."
    assert blind.details is None
    shown = blind.model_dump_json() + (await desk.queue("ben", Task.SAFETY))[0].model_dump_json()
    for hidden in ("0.97", "0.98", "refusal", "Please!", "ada", "appeal"):
        assert hidden not in shown
    seen = await desk.rate("ben", safety(5))
    assert seen.details is not None
    assert seen.details.safety == 0.97
    assert seen.details.flags == (Flag.FALSE_REFUSAL, Flag.GUARD_APPEAL, Flag.REFUSAL)
    said = {rating.answer["score"]: rating.yours for rating in seen.details.ratings}
    assert said == {1: False, 5: True}
    assert seen.details.feedback[0].text == "Please!"
    assert "ada" not in seen.model_dump_json()


async def test_an_answer_given_after_seeing_the_others_says_so(
    journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await desk.rate("ada", safety(4))
    await desk.rate("ben", safety(1))
    await desk.rate("ben", safety(4, replace=True))
    assert {r.rater_id: r.blind for r in await journal.ratings(ONE)} == {"ada": True, "ben": False}


async def test_two_who_agree_settle_an_item(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 4)
    assert not (await journal.turn("turn-1")).reviewed
    await desk.rate("ben", safety(5))
    assert (await journal.turn("turn-1")).reviewed
    assert await desk.claim("eve", task=Task.SAFETY) is None
    with pytest.raises(Settled):
        await desk.rate("eve", safety(1))


async def test_the_third_rater_breaks_a_tie(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 2, 5)
    assert (await next_safety(desk, "eve")).round == 1
    seen = await desk.rate("eve", safety(1))
    assert seen.settled
    assert seen.details is not None
    assert seen.details.verdict == {"safety": "violation", "false_refusal": False}


async def test_three_who_differ_are_adjudicated_by_a_fourth(
    journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 1, 3, 5)
    assert await desk.claim("rater-0", task=Task.SAFETY) is None
    item = await next_safety(desk, "judge")
    assert (item.adjudication, item.round, item.details) == (True, 2, None)
    assert (await desk.rate("judge", safety(3))).settled
    with pytest.raises(RoundClosed):
        await desk.undo("rater-0", ONE)


async def test_a_small_team_may_adjudicate_its_own(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 1, 3, 5)
    with pytest.raises(AlreadyRated):
        await desk.rate("rater-2", safety(5))
    await desk.claim("rater-2", item_id=ONE)
    await desk.rate("rater-2", safety(5))
    last = (await journal.ratings(ONE))[-1]
    assert (last.round, last.blind) == (2, False)
    assert (await journal.turn("turn-1")).reviewed


async def test_a_rater_answers_once_a_round(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await desk.rate("ada", safety(4))
    assert await desk.claim("ada", task=Task.SAFETY) is None
    for again in (desk.rate("ada", safety(1)), desk.claim("ada", item_id=ONE)):
        with pytest.raises(AlreadyRated):
            await again
    await desk.rate("ada", safety(2, replace=True))
    (rating,) = await journal.ratings(ONE)
    assert rating.model_dump()["score"] == 2
    with pytest.raises(NothingToUndo):
        await desk.rate("ben", safety(2, replace=True))


async def test_a_refused_answer_leaves_no_claim_behind(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await desk.rate("ada", safety(4))
    with pytest.raises(AlreadyRated):
        await desk.rate("ada", safety(4))
    assert (await next_safety(desk, "ben")).item_id == ONE


async def test_a_replaced_answer_can_open_an_item_again(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 4, 5)
    await desk.rate("rater-1", safety(1, replace=True))
    assert not (await journal.turn("turn-1")).reviewed
    assert (await next_safety(desk, "eve")).item_id == ONE


@pytest.mark.parametrize(
    "item_id", ["safety:turn-9", "safety:plain", "safety:", "turn-1", "beauty:turn-1"]
)
async def test_what_is_no_item_is_unknown(journal: Journal, desk: ReviewDesk, item_id: str) -> None:
    await journal.record(turn_record("plain"))
    for asked in (
        desk.item("ada", item_id),
        desk.claim("ada", item_id=item_id),
        desk.rate("ada", safety(item_id=item_id)),
        desk.skip("ada", item_id),
        desk.undo("ada", item_id),
    ):
        with pytest.raises(UnknownItem):
            await asked


async def test_an_answer_to_another_task_is_unknown(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    with pytest.raises(UnknownItem):
        await desk.rate("ada", safety(item_id=PAIR))


async def test_an_appeal_after_the_verdict_asks_everybody_again(
    store: Store, journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 1, 1)
    await journal.feedback(Feedback.of("turn-1", "ada", FeedbackKind.APPEAL, NOON + 5))
    store.now += 10
    item = await next_safety(desk, "rater-0")
    assert (item.round, item.adjudication) == (2, False)
    await rate_all(desk, 5, 5)
    assert (await journal.turn("turn-1")).reviewed


async def test_what_was_settled_and_not_closed_is_closed_on_the_way(
    journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 4, 4)
    await journal.set_reviewed("turn-1", False)  # as if killed before this was written
    assert await desk.claim("eve", task=Task.SAFETY) is None
    assert (await journal.turn("turn-1")).reviewed


async def test_a_turn_without_words_leaves_the_queue(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record().without_content())
    assert await desk.queue("ada", Task.SAFETY) == []
    assert (await journal.counters()).pending == 0
