"""What the operations page makes of a gateway's metrics."""

import pytest

from flywheel.records import Outcome
from guard.refusal import FalseRefusal, Source, Suspicion
from guard.types import Axis, Score, Stage
from server.metrics import Metrics
from ui.metrics import Histogram, Point, Reading
from ui.plots import bars, distribution, line


@pytest.fixture
def metrics() -> Metrics:
    """Three requests, one of them blocked; four scores."""
    metrics = Metrics()
    for outcome in (Outcome.COMPLETED, Outcome.COMPLETED, Outcome.BLOCKED_RESPONSE):
        metrics.requests.ended(outcome)
    for value in (0.02, 0.5, 0.97, 0.98):
        metrics.turns.scored(Stage.RESPONSE, Score(Axis.SAFETY, value, 0.0, "judge@1"))
    metrics.review.false_refusal(FalseRefusal(Source.GUARD, Suspicion.APPEAL))
    metrics.requests.first_token(0.1)
    return metrics


@pytest.fixture
def reading(metrics: Metrics) -> Reading:
    return Reading(metrics.expose().decode())


def test_requests_are_counted_by_outcome(reading: Reading) -> None:
    assert reading.requests == 3
    assert reading.blocks == 1
    assert reading.outcomes["completed"] == 2
    assert reading.outcomes["engine_failed"] == 0


def test_a_histogram_has_the_scores_by_bucket(reading: Reading) -> None:
    scores = reading.histogram("safechat_guard_score", axis="safety", stage="response")
    assert scores.total == 4
    by_bound = dict(zip(scores.bounds, scores.counts, strict=True))
    assert (by_bound[0.05], by_bound[0.5], by_bound[1.0]) == (1, 1, 2)
    assert reading.histogram("safechat_guard_score", axis="helpfulness").total == 0


@pytest.mark.parametrize(("q", "seconds"), [(0.25, 1.0), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)])
def test_quantiles_lie_on_a_line_within_their_bucket(q: float, seconds: float) -> None:
    assert Histogram((2.0, 4.0, float("inf")), (10, 10, 0)).quantile(q) == seconds


def test_beyond_the_last_bound_the_quantile_is_that_bound() -> None:
    assert Histogram((2.0, float("inf")), (1, 9)).quantile(0.95) == 2.0
    assert Histogram().quantile(0.5) is None


def test_a_point_has_shares_and_no_share_of_nothing(reading: Reading) -> None:
    point = Point.of(reading, 1.0)
    assert point.block_rate == pytest.approx(1 / 3)
    assert point.false_refusal_rate == pytest.approx(1 / 3)
    assert point.guard_wait_s is None
    assert Point.of(Reading(""), 1.0).block_rate is None


def test_plots_say_their_numbers_in_words(reading: Reading) -> None:
    drawn = line([(0.0, 0.1), (60.0, 0.3), (120.0, 0.2)], "Block rate", "%")
    assert 'aria-label="Block rate: now 20.0%, highest 30.0%"' in drawn
    assert "2 min ago" in drawn
    assert "nothing measured yet" in line([(0.0, None)], "Block rate", "%")
    scores = reading.histogram("safechat_guard_score", axis="safety", stage="response")
    assert "Safety: 4 scores, 2 of them at most 0.5" in distribution(scores, "Safety")
    assert "width:66.7%" in bars(reading.outcomes, of=reading.requests)
