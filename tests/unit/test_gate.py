"""The gate: nothing unjudged is released, and only the text decides where it is judged."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.gate import Checkpoint, Gate, Schedule
from guard.types import Verdict

WORDS = st.lists(
    st.text(alphabet="abcXYZ.,!é漢😀\u2028\u0085\x00", min_size=1, max_size=12)
    | st.sampled_from(["bomb", " ", "\n\n", "\t", "x" * 90]),
    max_size=120,
)
REPLIES = WORDS.map(" ".join) | st.text(max_size=900)


def unsafe(excerpt: str) -> bool:
    return "bomb" in excerpt


def split(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(c % (len(text) + 1) for c in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def play(deltas: list[str], delays: random.Random) -> tuple[str, bool, list[Checkpoint]]:
    """Run deltas through a gate, verdicts arriving late at random; what was shown of it."""
    gate, waiting, judged, shown = Gate(), list[Checkpoint](), list[Checkpoint](), ""

    def settle(count: int) -> None:
        nonlocal shown
        for checkpoint in waiting[:count]:
            if gate.blocked:
                break
            judged.append(checkpoint)
            verdict = Verdict.BLOCK if unsafe(gate.excerpt(checkpoint)) else Verdict.ALLOW
            gate.settle(checkpoint, verdict)
        del waiting[:count]
        shown += gate.text[len(shown) : gate.released]

    for delta in deltas:
        gate.push(delta)
        waiting += gate.due()
        settle(delays.randint(0, 2))
    gate.finish()
    waiting += gate.due()
    settle(len(waiting))
    return shown, gate.blocked, judged


@given(REPLIES, st.lists(st.integers(0, 2000), max_size=40), st.randoms())
@settings(max_examples=300, deadline=None)
def test_any_split_and_any_timing_give_the_same_release_and_verdict(
    text: str, cuts: list[int], delays: random.Random
) -> None:
    whole = play([text], random.Random(0))
    assert play(split(text, cuts), delays) == whole
    assert play(list(text), delays) == whole


@given(REPLIES)
@settings(max_examples=300, deadline=None)
def test_every_released_character_lies_in_an_allowed_excerpt(text: str) -> None:
    shown, blocked, judged = play(list(text), random.Random(1))
    allowed = judged[:-1] if blocked else judged
    covered = {i for c in allowed for i in range(c.start, c.end)}
    assert set(range(len(shown))) <= covered
    assert text.startswith(shown)
    if not blocked:
        assert shown == text
        assert judged[-1].final


@given(REPLIES)
@settings(max_examples=300, deadline=None)
def test_judging_a_reply_costs_at_most_four_times_its_length(text: str) -> None:
    gate = Gate()
    gate.push(text)
    gate.finish()
    assert sum(c.end - c.start for c in gate.due()) <= 4 * len(text) + Schedule().reach


def test_a_long_reply_costs_at_most_four_times_its_length() -> None:
    for text in ("word " * 20_000, "x" * 100_000):
        gate = Gate()
        gate.push(text)
        gate.finish()
        assert sum(c.end - c.start for c in gate.due()) <= 4 * len(text)


def test_the_first_visible_character_is_judged_without_waiting_for_more() -> None:
    gate = Gate()
    gate.push(" ")
    assert gate.due() == []
    gate.push("S")
    [first] = gate.due()
    assert gate.excerpt(first) == " S"
    assert gate.released == 0
    gate.settle(first, Verdict.ALLOW)
    assert gate.text[: gate.released] == " S"


def test_later_checkpoints_stand_at_word_ends_and_grow_apart_up_to_the_cap() -> None:
    gate = Gate()
    gate.push("word " * 300)
    first, *ends = [c.end for c in gate.due()]
    assert first == 1
    assert all(gate.text[end] == " " and gate.text[end - 1] != " " for end in ends)
    gaps = [b - a for a, b in itertools.pairwise(ends)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= Schedule().cap + Schedule().reach


def test_text_without_spaces_is_judged_too() -> None:
    gate = Gate()
    gate.push("x" * 200)
    assert [c.end for c in gate.due()] == [1, 81, 193]


def test_after_a_block_nothing_more_is_released_judged_or_taken() -> None:
    gate = Gate()
    gate.push("one two three four five")
    first, second = gate.due()
    gate.settle(first, Verdict.ALLOW)
    gate.settle(second, Verdict.BLOCK)
    gate.push(" more" * 100)
    gate.finish()
    assert gate.blocked
    assert gate.done
    assert gate.due() == []
    assert gate.text[: gate.released] == "o"


def test_an_empty_reply_is_judged_once() -> None:
    gate = Gate()
    gate.finish()
    [last] = gate.due()
    assert last.final
    gate.settle(last, Verdict.ALLOW)
    assert gate.done


def test_verdicts_out_of_order_are_refused() -> None:
    gate = Gate()
    gate.push("one two three four five")
    _, second = gate.due()
    with pytest.raises(ValueError, match="not the next"):
        gate.settle(second, Verdict.ALLOW)
    assert gate.released == 0


def test_text_after_the_end_is_refused() -> None:
    gate = Gate()
    gate.finish()
    with pytest.raises(ValueError, match="finished"):
        gate.push("more")


@pytest.mark.parametrize(
    "wrong", [{"cap": 0}, {"distances": (0, 16)}, {"window": 100}, {"reach": 0}]
)
def test_an_impossible_schedule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Schedule(**wrong)  # type: ignore[arg-type]
