"""Agreement coefficients: published worked examples, and what must hold of any ratings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
from sklearn.metrics import cohen_kappa_score

from flywheel.agreement.coefficients import (
    ONE_CATEGORY,
    TOO_FEW_RATERS,
    cohen_kappa,
    fleiss_kappa,
    gwet,
    krippendorff_alpha,
)
from flywheel.agreement.estimate import Counts, Estimate, student
from flywheel.agreement.weights import Weights

# Four raters, twelve units, five categories, missing ratings: example C of Krippendorff 2011,
# "Computing Krippendorff's Alpha-Reliability", and an example of Gwet 2014 (`cac.raw4raters`).
FOUR_RATERS: Sequence[Sequence[int | None]] = (
    (1, 1, None, 1),
    (2, 2, 3, 2),
    (3, 3, 3, 3),
    (3, 3, 3, 3),
    (2, 2, 2, 2),
    (1, 2, 3, 4),
    (4, 4, 4, 4),
    (1, 1, 2, 1),
    (2, 2, 2, 2),
    (None, 5, 5, 5),
    (None, None, 1, 1),
    (None, None, 3, None),
)
# Ten subjects, fourteen raters, five categories: the worked example of Fleiss' kappa on Wikipedia.
FOURTEEN_RATERS = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)
# Example A of Krippendorff 2011: two observers, ten units, two categories.
TWO_OBSERVERS = ((0, 1), (1, 1), (0, 1), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0))


def table(rows: Sequence[Sequence[int | None]], categories: Sequence[int]) -> Counts:
    return np.array([[sum(v == c for v in row) for c in categories] for row in rows])


FOUR = table(FOUR_RATERS, range(1, 6))
FIVE = np.arange(1, 6, dtype=np.float64)
FOUR_PLACES = np.arange(4, dtype=np.float64)
TWO_PLACES = np.arange(2, dtype=np.float64)


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


@pytest.mark.parametrize(
    ("weights", "coefficient", "low"),
    [("identity", 0.775, 0.461), ("linear", 0.859, 0.600), ("ordinal", 0.899, 0.664),
     ("quadratic", 0.914, 0.685)],
)  # fmt: skip
def test_ac1_and_ac2_are_those_of_gwets_example_with_missing_ratings(
    weights: str, coefficient: float, low: float
) -> None:
    found = gwet(FOUR, Weights(weights).matrix(FIVE))
    assert value(found) == pytest.approx(coefficient, abs=5e-4)
    assert found.interval == pytest.approx((low, 1.0), abs=5e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 11, 99, 1000, 1001, 50_000])
def test_students_quantile_is_that_of_the_tables(freedom: float) -> None:
    for share in (0.975, 0.995):
        assert student(share, freedom) == pytest.approx(stdtrit(freedom, share), rel=3e-3)


def test_fleiss_kappa_is_that_of_the_examples() -> None:
    assert value(fleiss_kappa(np.array(FOURTEEN_RATERS))) == pytest.approx(0.210, abs=5e-4)
    assert value(fleiss_kappa(FOUR)) == pytest.approx(0.76117, abs=5e-6)


def test_alpha_is_that_of_krippendorffs_examples() -> None:
    nominal = krippendorff_alpha(FOUR, FIVE, ordered=False)
    ordinal = krippendorff_alpha(FOUR, FIVE, ordered=True)
    binary = krippendorff_alpha(table(TWO_OBSERVERS, (0, 1)), TWO_PLACES, ordered=False)
    assert value(nominal) == pytest.approx(0.743, abs=5e-4)
    assert value(ordinal) == pytest.approx(0.815, abs=5e-4)
    assert value(binary) == pytest.approx(0.095, abs=5e-4)


def test_cohens_kappa_is_that_of_the_textbook_table() -> None:
    """Twenty times both yes, fifteen both no, five and ten split: kappa 0.4."""
    pairs = [(0, 0)] * 20 + [(0, 1)] * 5 + [(1, 0)] * 10 + [(1, 1)] * 15
    found = cohen_kappa(np.array(pairs), 2)
    assert value(found) == pytest.approx(0.4)
    assert found.interval is not None
    assert found.interval[0] < 0.4 < found.interval[1]


def test_ac1_stands_where_kappa_falls_with_prevalence() -> None:
    """The paradox that AC1 is for: 95 % of pairs agree, nearly all in one category."""
    lopsided = np.array([[2, 0]] * 95 + [[1, 1]] * 5)
    assert value(fleiss_kappa(lopsided)) < 0
    assert value(gwet(lopsided, np.eye(2))) > 0.94


def test_a_hundred_thousand_items_have_a_narrower_interval_than_a_thousand() -> None:
    rng = np.random.default_rng(1)
    rows = rng.multinomial(3, [0.7, 0.3], size=100_000)
    few, many = fleiss_kappa(rows[:1000]), fleiss_kappa(rows)
    assert few.interval is not None
    assert many.interval is not None
    ratio = np.diff(few.interval) / np.diff(many.interval)
    assert ratio == pytest.approx(10, rel=0.25)


def test_intervals_cover_what_they_should() -> None:
    """Of 100 studies with a known kappa about 95 % have it in their intervals."""
    rng = np.random.default_rng(2)
    covered = {"gwet": 0, "fleiss": 0}
    truth = rng.random(200_000) < 0.5
    says = np.stack([truth ^ (rng.random(truth.size) < 0.1) for _ in range(3)], axis=1)
    counts = np.stack([(~says).sum(axis=1), says.sum(axis=1)], axis=1)
    whole = {"gwet": value(gwet(counts, np.eye(2))), "fleiss": value(fleiss_kappa(counts))}
    for study in np.split(counts[:10_000], 100):
        found = {"gwet": gwet(study, np.eye(2)), "fleiss": fleiss_kappa(study)}
        for name, estimate in found.items():
            assert estimate.interval is not None
            low, high = estimate.interval
            covered[name] += low <= whole[name] <= high
    assert all(times >= 88 for times in covered.values()), covered


ratings = st.integers(2, 5).flatmap(
    lambda raters: st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=raters, max_size=raters),
        min_size=2,
        max_size=25,
    )
)
few = settings(max_examples=20, deadline=None)


def everything(rows: Sequence[Sequence[int | None]], categories: Sequence[int]) -> list[Any]:
    counts = table(rows, categories)
    found = [gwet(counts, Weights.IDENTITY.matrix(FOUR_PLACES)), fleiss_kappa(counts)]
    found.append(krippendorff_alpha(counts, FOUR_PLACES, ordered=False))
    flat = [(e.value, *(e.interval or (None, None))) for e in found]
    return [None if x is None else pytest.approx(x) for numbers in flat for x in numbers]


@few
@given(ratings, st.randoms(use_true_random=False))
def test_raters_names_and_order_do_not_matter(
    rows: Sequence[Sequence[int | None]], random: Any
) -> None:
    order = random.sample(range(len(rows[0])), len(rows[0]))
    renamed = [[row[rater] for rater in order] for row in rows]
    assert everything(renamed, range(4)) == everything(rows, range(4))


@few
@given(ratings, st.permutations(range(4)))
def test_categories_names_do_not_matter(
    rows: Sequence[Sequence[int | None]], names: Sequence[int]
) -> None:
    renamed = [[None if v is None else names[v] for v in row] for row in rows]
    assert everything(renamed, names) == everything(rows, range(4))


@few
@given(st.lists(st.integers(0, 3), min_size=2, max_size=25), st.integers(2, 5))
def test_perfect_agreement_is_one(said: Sequence[int], raters: int) -> None:
    counts = table([[category] * raters for category in said], range(4))
    for weights in Weights:
        assert value(gwet(counts, weights.matrix(FOUR_PLACES))) == pytest.approx(1)
    others = [fleiss_kappa(counts), krippendorff_alpha(counts, FOUR_PLACES, ordered=False)]
    others.append(cohen_kappa(np.array([(category, category) for category in said]), 4))
    for estimate in others:
        if len(set(said)) > 1:
            assert value(estimate) == pytest.approx(1)
            assert estimate.interval == pytest.approx((1, 1))
        else:
            assert (estimate.value, estimate.reason) == (None, ONE_CATEGORY)


@few
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_cohens_kappa_is_scikit_learns(pairs: Sequence[tuple[int, int]]) -> None:
    found = cohen_kappa(np.array(pairs), 4)
    if found.value is None:
        assert len({category for pair in pairs for category in pair}) == 1
    else:
        one, two = zip(*pairs, strict=True)
        assert found.value == pytest.approx(cohen_kappa_score(one, two))


@pytest.mark.parametrize("counts", [np.array([[1, 0], [0, 1]]), np.zeros((0, 2), dtype=int)])
def test_without_two_ratings_of_an_item_there_is_a_reason_in_place_of_a_number(
    counts: Counts,
) -> None:
    missing = Estimate(None, None, TOO_FEW_RATERS)
    assert gwet(counts, np.eye(2)) == missing
    assert fleiss_kappa(counts) == missing
    assert krippendorff_alpha(counts, TWO_PLACES, ordered=False) == missing
