"""When raters have decided: majority, adjudication, and being asked again."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.journal import Entry
from flywheel.opinions import (
    DemonstrationRating,
    Feedback,
    FeedbackKind,
    PreferenceRating,
    Rating,
    SafetyRating,
    Side,
    Strength,
)
from flywheel.review.errors import AlreadyRated, NothingToUndo, RoundClosed
from flywheel.review.false_refusals import State, state_of
from flywheel.review.rounds import Band, Panel, check_newest, progress, round_for
from flywheel.review.tasks import Task
from guard.types import Flag
from tests.fakes.turns import NOON, flagged_record


def safety(score: int, rater: str = "", *, number: int = 1, false: bool = False) -> SafetyRating:
    return SafetyRating(
        item_id="safety:turn-1",
        turn_id="turn-1",
        rater_id=rater or f"rater-{score}",
        time=NOON,
        round=number,
        score=score,
        false_refusal=false,
    )


def scores(*given: int) -> list[Rating]:
    return [safety(score, f"r{i}") for i, score in enumerate(given)]


def entry(ratings: list[Rating], **changes: Any) -> Entry:
    return Entry(
        seq=1, rank=1, reviewed=False, record=flagged_record(), ratings=(*ratings,), **changes
    )


def verdict(*given: int, raters: int = 3) -> Any:
    found = progress(entry(scores(*given)), Task.SAFETY, Panel(raters)).verdict
    return found and found["safety"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), None),
        ((2,), None),
        ((1, 2), Band.VIOLATION),
        ((4, 5), Band.SAFE),
        ((3, 3), Band.BORDERLINE),
        ((2, 4), None),
        ((2, 4, 5), Band.SAFE),
        ((1, 5, 2), Band.VIOLATION),
        ((1, 3, 5), None),
    ],
)
def test_two_of_three_raters_settle_an_item(given: tuple[int, ...], expected: Band | None) -> None:
    assert verdict(*given) == expected


def test_a_panel_may_be_asked_as_a_whole() -> None:
    panel = Panel(3, all=True)
    assert progress(entry(scores(1, 2)), Task.SAFETY, panel).open
    settled = progress(entry(scores(1, 2, 5)), Task.SAFETY, panel)
    assert settled.verdict == {"safety": Band.VIOLATION, "false_refusal": False}


def test_of_five_raters_three_must_agree() -> None:
    assert verdict(4, 5, raters=5) is None
    assert verdict(4, 5, 4, raters=5) is Band.SAFE


def test_one_rater_is_enough_where_one_is_asked() -> None:
    assert verdict(4, raters=1) is Band.SAFE


def test_each_question_needs_its_own_majority() -> None:
    said: list[Rating] = [safety(5, "ada", false=True), safety(4, "ben")]
    assert progress(entry(said), Task.SAFETY, Panel()).open
    settled = progress(entry([*said, safety(1, "eve", false=True)]), Task.SAFETY, Panel())
    assert settled.verdict == {"safety": Band.SAFE, "false_refusal": True}


def test_raters_who_all_differ_are_adjudicated() -> None:
    split = scores(1, 3, 5)
    standing = progress(entry(split), Task.SAFETY, Panel())
    assert (standing.number, standing.adjudication, standing.open) == (2, True, True)
    decided = progress(entry([*split, safety(5, "judge", number=2)]), Task.SAFETY, Panel())
    assert decided.verdict == {"safety": Band.SAFE, "false_refusal": False}


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(1, 5))
def test_an_item_is_open_exactly_as_long_as_it_has_no_verdict(
    given: list[int], raters: int
) -> None:
    standing = progress(entry(scores(*given)), Task.SAFETY, Panel(raters))
    assert standing.open is (standing.verdict is None)
    if standing.adjudication:
        assert len(given) >= raters


def appeal(at: float) -> Feedback:
    return Feedback.of("turn-1", "ada", FeedbackKind.APPEAL, at)


def test_an_appeal_after_the_verdict_opens_a_round_for_everybody() -> None:
    asked_again = entry(scores(1, 1), feedback=(appeal(NOON + 1),))
    standing = progress(asked_again, Task.SAFETY, Panel())
    assert (standing.number, standing.adjudication, standing.answers) == (2, False, ())
    answered = replace(asked_again, ratings=(*asked_again.ratings, safety(5, "r0", number=2)))
    assert progress(answered, Task.SAFETY, Panel()).open


def test_an_appeal_before_the_verdict_opens_nothing() -> None:
    assert not progress(
        entry(scores(1, 1), feedback=(appeal(NOON - 1),)), Task.SAFETY, Panel()
    ).open


def test_one_demonstration_is_enough() -> None:
    written = DemonstrationRating(item_id="i", rater_id="ada", time=NOON, text="Like this.")
    assert not progress(entry([written]), Task.DEMONSTRATION, Panel()).open


def preference(rater: str, left: str, right: str, chosen: Side) -> PreferenceRating:
    return PreferenceRating(
        item_id="i",
        rater_id=rater,
        time=NOON,
        left=left,
        right=right,
        chosen=chosen,
        strength=Strength.BETTER,
        left_safe=True,
        right_safe=True,
    )


def test_raters_who_saw_other_sides_agree_on_the_reply() -> None:
    said: list[Rating] = [
        preference("ada", "choice-0", "attempt-0", Side.RIGHT),
        preference("ben", "attempt-0", "choice-0", Side.LEFT),
    ]
    assert progress(entry(said), Task.PREFERENCE, Panel()).verdict == {"better": "attempt-0"}


def test_tasks_do_not_count_for_each_other() -> None:
    assert progress(entry(scores(1, 1)), Task.PREFERENCE, Panel()).number == 1


def answer_round(said: list[Rating], rater: str, **how: bool) -> int:
    turn = entry(said)
    standing = progress(turn, Task.SAFETY, Panel())
    asked = {"replace": False, "held": True, **how}
    return round_for(turn, Task.SAFETY, standing, rater, **asked)


def test_an_answer_sent_twice_is_no_adjudication() -> None:
    split = scores(1, 3, 5)
    with pytest.raises(AlreadyRated):
        answer_round(split, "r2", held=False)
    assert answer_round(split, "r2") == 2
    assert answer_round(split, "new", held=False) == 2


def test_only_ones_own_answer_can_be_replaced() -> None:
    assert answer_round(scores(1), "r0", replace=True) == 1
    with pytest.raises(NothingToUndo):
        answer_round(scores(1), "r1", replace=True)


def test_an_answer_stands_once_the_next_round_has_begun() -> None:
    said = [*scores(1, 3, 5), safety(4, "judge", number=2)]
    with pytest.raises(RoundClosed):
        check_newest(entry(said), Task.SAFETY, said[0])
    check_newest(entry(said), Task.SAFETY, said[-1])


@pytest.mark.parametrize(
    ("flag", "false", "state"),
    [
        (Flag.FALSE_REFUSAL, True, State.CONFIRMED),
        (Flag.FALSE_REFUSAL, False, State.DISMISSED),
        (Flag.GUARD_APPEAL, False, State.DISMISSED),
        (Flag.UNSAFE_PROMPT, True, State.CONFIRMED),
        (Flag.UNSAFE_PROMPT, False, None),
    ],
)
def test_raters_confirm_or_dismiss_a_false_refusal(
    flag: Flag, false: bool, state: State | None
) -> None:
    said: list[Rating] = [safety(4, "ada", false=false), safety(5, "ben", false=false)]
    turn = Entry(1, 1, False, flagged_record(flags={flag}), ratings=(*said,))
    assert state_of(turn, Panel()) is state


def test_a_suspicion_stays_one_until_raters_have_decided() -> None:
    turn = Entry(1, 1, False, flagged_record(flags={Flag.FALSE_REFUSAL}))
    assert state_of(turn, Panel()) is State.SUSPECTED
