"""The figures and their intervals, against their definitions and against scikit-learn."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from flywheel.evaluation.guard.figures import (
    Figures,
    classification,
    ranking,
    rates,
)
from flywheel.measures.bootstrap import Bootstrap, weighted_auc
from guard.reward.calibration import Floats

# scikit-learn takes milliseconds a call, and many on a busy machine.
patient = settings(deadline=None, max_examples=40)
# Coarse, so that ties are frequent.
risks = st.integers(0, 20).map(lambda n: n / 20)
labelled = st.lists(st.tuples(st.booleans(), risks), min_size=2, max_size=40)
both_classes = labelled.filter(lambda rows: len({label for label, _ in rows}) == 2)
Rows = Sequence[tuple[bool, float]]


def classified(rows: Rows, threshold: float = 0.5, seed: int = 0) -> Figures:
    risk = np.array([risk for _, risk in rows])
    return classification(
        np.array([label for label, _ in rows]),
        risk,
        risk > threshold,
        Bootstrap(range(len(rows)), seed, draws=50),
    )


@patient
@given(labels=st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_perfect_scorer_has_perfect_figures(labels: list[bool]) -> None:
    found = classified([(label, float(label)) for label in labels])
    positive, negative = any(labels), not all(labels)
    assert found.estimates == {
        "auc": 1.0 if positive and negative else None,
        "recall": 1.0 if positive else None,
        "false_positive_rate": 0.0 if negative else None,
        "f1": 1.0 if positive else None,
        "ece": 0.0,
    }


@patient
@given(rows=both_classes)
def test_the_area_depends_on_the_order_of_scores_alone(rows: Rows) -> None:
    squeezed = [(label, risk**3 / 2) for label, risk in rows]
    assert classified(rows).estimates["auc"] == classified(squeezed).estimates["auc"]


@patient
@given(rows=both_classes)
def test_a_reversed_scorer_has_the_complementary_area(rows: Rows) -> None:
    reversed_rows = [(label, 1 - risk) for label, risk in rows]
    area, other = (classified(r).estimates["auc"] for r in (rows, reversed_rows))
    assert area is not None
    assert other == pytest.approx(1 - area)


@patient
@given(rows=both_classes, chance=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[tuple[bool, float]], chance: object) -> None:
    shuffled = rows.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert classified(shuffled).estimates == pytest.approx(classified(rows).estimates)


@patient
@given(rows=both_classes, data=st.data())
def test_a_drawn_figure_is_that_of_the_drawn_rows(rows: Rows, data: st.DataObject) -> None:
    """The fast figures of the bootstrap are scikit-learn's, on rows repeated as drawn."""
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [row for row, count in zip(rows, times, strict=True) for _ in range(count)]
    label, risk = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    [area] = weighted_auc(label, risk, np.array([times], dtype=float))
    if len({label for label, _ in repeated}) < 2:
        assert np.isnan(area)
        return
    assert area == pytest.approx(roc_auc_score(*zip(*repeated, strict=True)))


def drawn_rows(draws: Bootstrap, rows: int) -> Floats:
    """How often each draw holds each row."""
    return draws.sums(np.eye(rows))


def test_every_figure_of_a_draw_is_that_of_its_rows() -> None:
    chance = np.random.default_rng(1)
    label = (np.arange(30) % 3 == 0).astype(float)
    flag = (chance.random(30) < 0.3 + 0.4 * label).astype(float)
    draws = Bootstrap(range(30), seed=1, draws=20)
    f1 = draws.ratio(2 * flag * label, flag + label)
    for weights, value in zip(drawn_rows(draws, 30), f1, strict=True):
        assert value == pytest.approx(f1_score(label, flag, sample_weight=weights))


def test_rows_of_one_prompt_are_drawn_together() -> None:
    draws = Bootstrap(["a", "a", "b", "b", "b"], seed=0, draws=100)
    counts = drawn_rows(draws, 5)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 4]).all()
    assert (counts[:, 0] + counts[:, 2] == 2).all()


def test_rows_that_share_prompts_have_wider_intervals() -> None:
    label = np.ones(400, dtype=bool)
    flag = np.repeat(np.arange(20) % 2 == 0, 20)
    alone = rates(label, flag, Bootstrap(range(400), seed=0)).intervals["recall"]
    prompts = [n // 20 for n in range(400)]
    shared = rates(label, flag, Bootstrap(prompts, seed=0)).intervals["recall"]
    assert alone is not None
    assert shared is not None
    assert shared[1] - shared[0] > 3 * (alone[1] - alone[0])


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(7)
    covered = 0
    for seed in range(100):
        flag = chance.random(100) < 0.7
        interval = rates(np.ones(100, bool), flag, Bootstrap(range(100), seed)).intervals["recall"]
        assert interval is not None
        covered += interval[0] <= 0.7 <= interval[1]
    assert covered / 100 >= 0.88


def test_the_same_seed_gives_the_same_intervals() -> None:
    rows = [(n % 3 == 0, n / 50) for n in range(50)]
    assert classified(rows, seed=3).intervals == classified(rows, seed=3).intervals
    assert classified(rows, seed=3).intervals != classified(rows, seed=4).intervals


def test_one_prompt_is_too_little_for_an_interval() -> None:
    found = classification(
        np.array([True, False]),
        np.array([0.9, 0.1]),
        np.array([True, False]),
        Bootstrap(["same", "same"], seed=0),
    )
    assert found.estimates["auc"] == 1.0
    assert found.intervals["auc"] is None


def test_pairs_count_ties_half_and_have_the_longer_reply_beside() -> None:
    found = ranking(np.array([0.2, -0.1, 0.0, 0.3]), np.array([5.0, 5.0, -2.0, 0.0]), draws_of(4))
    assert found.estimates == {"pair_accuracy": 0.625, "length_baseline": 0.625}
    assert found.positives is None


def test_two_equal_rankers_have_equal_intervals() -> None:
    gap = np.random.default_rng(0).normal(size=60)
    found = ranking(gap, gap * 100, draws_of(60))
    assert found.intervals["pair_accuracy"] == found.intervals["length_baseline"]


def draws_of(rows: int) -> Bootstrap:
    return Bootstrap(range(rows), seed=0, draws=100)
