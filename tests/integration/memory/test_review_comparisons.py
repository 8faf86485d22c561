"""Two replies compared, and replies written by people."""

from collections.abc import Sequence

import pytest

from flywheel.journal import Journal
from flywheel.opinions import PreferenceRating, SecondReply, Side
from flywheel.records import RecordedMessage
from flywheel.review.answers import DemonstrationAnswer
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.errors import UnknownItem
from flywheel.review.tasks import Task
from tests.fakes.turns import SECRET, flagged_record
from tests.integration.memory.desks import PAIR, open_desk, prefers, rate_all, single
from tests.integration.memory.stores import Store


async def test_sides_are_random_over_raters_and_stay(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    lefts = [(await desk.item(f"rater-{n}", PAIR)).left for n in range(40)]
    again = [(await desk.item(f"rater-{n}", PAIR)).left for n in range(40)]
    assert lefts == again
    assert 8 <= lefts.count(lefts[0]) <= 32


async def test_a_preference_names_the_replies_by_side(journal: Journal, desk: ReviewDesk) -> None:
    await journal.record(flagged_record())
    texts = {"choice-0": f"I shall: {SECRET}.", "attempt-0": f"No: {SECRET}?"}
    for number in range(2):
        rater = f"rater-{number}"
        item = await desk.claim(rater, task=Task.PREFERENCE)
        assert item is not None
        wanted = Side.LEFT if item.left == texts["choice-0"] else Side.RIGHT
        await desk.rate(rater, prefers(wanted))
    ratings = await journal.ratings(PAIR)
    for rating in ratings:
        assert isinstance(rating, PreferenceRating)
        assert {rating.left, rating.right} == set(texts)
    seen = await desk.item("rater-0", PAIR)
    assert seen.details is not None
    assert seen.details.verdict == {"better": "choice-0"}
    assert not (await journal.turn("turn-1")).reviewed  # its flag is another question


async def test_without_a_second_reply_there_is_nothing_to_compare(
    journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(single())
    assert await desk.claim("ada", task=Task.PREFERENCE) is None
    with pytest.raises(UnknownItem):
        await desk.claim("ada", item_id=PAIR)


async def test_a_second_reply_is_made_once_for_all_raters(store: Store, journal: Journal) -> None:
    asked: list[Sequence[RecordedMessage]] = []

    async def make(messages: Sequence[RecordedMessage]) -> str:
        asked.append(messages)
        return f"Another reply, number {len(asked)}."

    desk = open_desk(store, journal, second_reply=make)
    await journal.record(single())
    for rater in ("ada", "ben"):
        item = await desk.claim(rater, task=Task.PREFERENCE)
        assert item is not None
        assert "Another reply, number 1." in (item.left, item.right)
        await desk.rate(rater, prefers())
    assert len(asked) == 1
    assert [message.role for message in asked[0]] == ["system", "user"]
    kept = await journal.ratings(PAIR)
    assert [r.text for r in kept if isinstance(r, SecondReply)] == ["Another reply, number 1."]
    names = [{r.left, r.right} for r in kept if isinstance(r, PreferenceRating)]
    assert names == [{"choice-0", SecondReply.NAME}] * 2


async def test_where_no_second_reply_can_be_had_the_next_item_comes(
    store: Store, journal: Journal
) -> None:
    asked = 0

    async def make(messages: Sequence[RecordedMessage]) -> str | None:
        nonlocal asked
        asked += 1
        return None

    desk = open_desk(store, journal, second_reply=make)
    await journal.record(single())
    await journal.record(flagged_record("turn-2"))
    for rater in ("ada", "ben"):
        item = await desk.claim(rater, task=Task.PREFERENCE)
        assert item is not None
        assert item.item_id == "preference:turn-2"
        await desk.release(rater, item.item_id)
    assert asked == 1


async def test_a_failing_engine_leaves_the_item_free(store: Store, journal: Journal) -> None:
    async def fail(messages: Sequence[RecordedMessage]) -> str:
        raise RuntimeError("the engine is down")

    desk = open_desk(store, journal, second_reply=fail)
    await journal.record(single())
    with pytest.raises(RuntimeError, match="down"):
        await desk.claim("ada", task=Task.PREFERENCE)
    assert await journal.claims([PAIR]) == {}


async def test_a_demonstration_is_kept_redacted(store: Store, journal: Journal) -> None:
    redact = ReviewOptions(redact=lambda text: text.replace(SECRET, "[…]"))
    desk = ReviewDesk(journal, redact)
    await journal.record(flagged_record())
    item = await desk.claim("ada", task=Task.DEMONSTRATION)
    assert item is not None
    assert item.reply == f"I shall: {SECRET}."
    written = f"I do not know where {SECRET}."
    answer = DemonstrationAnswer(task="demonstration", item_id=item.item_id, text=written)
    assert (await desk.rate("ada", answer)).settled
    (rating,) = await journal.ratings(item.item_id)
    assert rating.model_dump()["text"] == "I do not know where […]."


async def test_a_settled_flag_leaves_the_other_tasks_open(
    journal: Journal, desk: ReviewDesk
) -> None:
    await journal.record(flagged_record())
    await rate_all(desk, 4, 4)
    item = await desk.claim("eve", task=Task.PREFERENCE)
    assert item is not None
    assert item.item_id == PAIR


async def test_a_comparison_without_a_pair_takes_no_answer(store: Store, journal: Journal) -> None:
    async def make(messages: Sequence[RecordedMessage]) -> str:
        return "never asked for"

    desk = open_desk(store, journal, second_reply=make)
    await journal.record(single())
    with pytest.raises(UnknownItem):
        await desk.rate("ada", prefers())
