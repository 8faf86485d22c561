"""The same items before and after: a change, what it shows, and what it rules out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.paired import Change, change

Bounds = tuple[float, float]


def of(metric: str, mean: float, interval: Bounds | None) -> Change:
    return Change(metric, 100, before=0.5, after=0.5 + mean, interval=interval)


@pytest.mark.parametrize(
    ("interval", "mean", "shown", "ruled_out"),
    [
        ((0.04, 0.08), 0.06, True, False),  # surely worse
        ((-0.08, -0.04), -0.06, False, True),  # surely better
        ((-0.01, 0.015), 0.002, False, True),  # measured well: no worse than the margin
        ((-0.20, 0.25), 0.030, False, False),  # measured too roughly for either
        ((0.001, 0.019), 0.010, False, True),  # worse for sure, and by less than is put up with
        ((0.01, 0.02), 0.015, False, True),  # up to the margin and not beyond
        (None, 0.5, False, False),  # a single prompt
    ],
)
def test_what_is_shown_and_what_is_ruled_out_are_two_questions(
    interval: Bounds | None, mean: float, shown: bool, ruled_out: bool
) -> None:
    worse_if_higher = of("violation", mean, interval)
    turned = None if interval is None else (-interval[1], -interval[0])
    worse_if_lower = of("helpfulness", -mean, turned)
    for found in (worse_if_higher, worse_if_lower):
        assert found.worsening == pytest.approx(mean)
        assert found.shows_worsening(0.02) is shown
        assert found.rules_out_worsening(0.02) is ruled_out


def bounds(
    before: dict[str, float], after: dict[str, float], groups: dict[str, str] | None = None
) -> Bounds:
    found = change("violation", before, after, groups=groups)
    assert found is not None
    assert found.interval is not None
    return found.interval


def test_items_of_one_prompt_are_drawn_together() -> None:
    before = {str(n): 0.0 for n in range(40)}
    after = {id: float(n % 2) for n, id in enumerate(before)}
    apart = bounds(before, after)
    assert apart[1] - apart[0] < 0.4
    assert bounds(before, after, {id: str(int(id) % 2) for id in before}) == (0.0, 1.0)


def test_only_items_of_both_count_and_without_any_there_is_no_change() -> None:
    found = change("violation", {"a": 0.0, "b": 1.0, "c": 1.0}, {"b": 0.0, "c": 1.0, "d": 1.0})
    assert found is not None
    assert (found.n, found.before, found.after) == (2, 1.0, 0.5)
    assert change("violation", {"a": 0.0}, {"b": 0.0}) is None


@given(st.dictionaries(st.integers(0, 50).map(str), st.sampled_from([0.0, 1.0]), min_size=2))
def test_the_order_of_the_items_and_the_day_do_not_matter(before: dict[str, float]) -> None:
    after = {id: 1.0 - value for id, value in before.items()}
    turned = dict(reversed(before.items()))
    assert change("violation", before, after) == change("violation", turned, after)
