"""From scores and labels to figures, each with a 95 % bootstrap interval over prompts.

Point estimates are scikit-learn's. For the intervals the same figures are computed for all draws
of the bootstrap at once.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from flywheel.measures.bootstrap import Bootstrap, quotient
from guard.reward.calibration import Floats, expected_calibration_error

BINS = 10

Estimates = dict[str, float | None]
Intervals = dict[str, tuple[float, float] | None]


@dataclass(frozen=True, slots=True)
class Figures:
    """Estimates by name, None where one is not defined, and intervals by the same names."""

    n: int
    positives: int | None = None
    estimates: Estimates = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)


def classification(
    positive: NDArray[np.bool_], risk: Floats, flagged: NDArray[np.bool_], draws: Bootstrap
) -> Figures:
    """Figures of labelled rows. positive, risk (probability in [0, 1]), flagged: (rows,)."""
    label, flag = positive.astype(np.float64), flagged.astype(np.float64)
    both = positive.any() and not positive.all()
    estimates: Estimates = {
        "auc": float(roc_auc_score(label, risk)) if both else None,
        "f1": float(f1_score(label, flag)) if positive.any() else None,
        "ece": expected_calibration_error(risk, label, BINS),
    }
    drawn = {
        "auc": draws.auc(label, risk),
        "f1": draws.ratio(2 * flag * label, flag + label),
        "ece": _calibration_errors(label, risk, draws),
    }
    at_threshold = rates(positive, flagged, draws)
    return Figures(
        n=len(label),
        positives=int(label.sum()),
        estimates=estimates | at_threshold.estimates,
        intervals=_intervals(estimates, drawn, draws) | at_threshold.intervals,
    )


def rates(positive: NDArray[np.bool_], flagged: NDArray[np.bool_], draws: Bootstrap) -> Figures:
    """Recall and false positive rate of decisions. positive, flagged: (rows,)."""
    label, flag = positive.astype(np.float64), flagged.astype(np.float64)
    estimates: Estimates = {
        "recall": float(flag[positive].mean()) if positive.any() else None,
        "false_positive_rate": float(flag[~positive].mean()) if not positive.all() else None,
    }
    drawn = {
        "recall": draws.ratio(flag * label, label),
        "false_positive_rate": draws.ratio(flag * (1 - label), 1 - label),
    }
    return Figures(len(label), int(label.sum()), estimates, _intervals(estimates, drawn, draws))


def ranking(gap: Floats, longer: Floats, draws: Bootstrap) -> Figures:
    """Figures of pairs. gap: score of the chosen reply less that of the rejected one, (pairs,);
    longer: the same of their lengths. Ties count half."""
    rows = {
        "pair_accuracy": np.heaviside(gap, 0.5),
        "length_baseline": np.heaviside(longer, 0.5),
    }
    return Figures(
        n=len(gap),
        estimates={name: float(values.mean()) for name, values in rows.items()},
        intervals={name: draws.interval(draws.mean(v)) for name, v in rows.items()},
    )


def _calibration_errors(label: Floats, risk: Floats, draws: Bootstrap) -> Floats:
    bins = np.minimum((risk * BINS).astype(int), BINS - 1)
    gaps = (risk - label)[:, None] * np.eye(BINS)[bins]
    return quotient(np.abs(draws.sums(gaps)).sum(axis=1), draws.sums(np.ones_like(label)))


def _intervals(estimates: Estimates, drawn: dict[str, Floats], draws: Bootstrap) -> Intervals:
    return {
        name: None if estimates[name] is None else draws.interval(values)
        for name, values in drawn.items()
    }
