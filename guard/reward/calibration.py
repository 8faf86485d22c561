"""From a raw logit to a probability: Platt scaling, one line fitted for each stage.

Platt, "Probabilistic outputs for support vector machines", 1999. The slope is kept
positive, so a higher reward never means a lower score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MINIMUM_SLOPE = 1e-3
TINY = 1e-6  # what is surer than this is not believed to be


def sigmoid(x: ArrayLike) -> Floats:
    """Logistic function without overflow, elementwise."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def even_mean(first: ArrayLike, second: ArrayLike) -> Floats:
    """Two probabilities heard alike: the one at the mean of their log odds, elementwise."""
    p, q = (np.clip(np.asarray(x, np.float64), TINY, 1 - TINY) for x in (first, second))
    return sigmoid((np.log(p / (1 - p)) + np.log(q / (1 - q))) / 2)


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = sigmoid(slope * logit + intercept), always increasing in the logit.

    Raises ValueError when the slope is not positive or a number is not finite.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept) and self.slope > 0):
            raise ValueError(f"a calibration needs a positive slope and finite numbers: {self}")

    def probability(self, logits: ArrayLike) -> Floats:
        """Logits of any shape to probabilities in [0, 1] of the same shape."""
        return sigmoid(self.slope * np.asarray(logits, dtype=np.float64) + self.intercept)

    def shifted(self, logit: float, probability: float = 0.5) -> "Calibration":
        """The same slope, with the intercept moved so that `logit` maps to `probability`."""
        target = float(np.log(probability / (1.0 - probability)))
        return Calibration(self.slope, target - self.slope * logit)


def fit(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> Calibration:
    """Maximum likelihood slope and intercept, by Newton's method on two parameters.

    logits: (n,) floats; labels: (n,) of 0 or 1; weights: (n,) positive, default 1.
    Raises ValueError when a class is missing.
    """
    x = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (y.min(initial=1.0) == 0.0 and y.max(initial=0.0) == 1.0):
        raise ValueError("a calibration needs examples of both classes")
    # Platt's smoothed targets keep the optimum finite when the classes are separable.
    positive, negative = float(w[y == 1].sum()), float(w[y == 0].sum())
    target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    features = np.stack([x, np.ones_like(x)], axis=1)
    parameters = np.array([1.0 / (x.std() + 1e-9), 0.0])
    loss = _loss(features @ parameters, target, w)
    for _ in range(100):
        p = sigmoid(features @ parameters)
        gradient = features.T @ (w * (p - target))
        hessian = (features * (w * p * (1 - p))[:, None]).T @ features + 1e-9 * np.eye(2)
        step, scale = np.linalg.solve(hessian, gradient), 1.0
        while _loss(features @ (parameters - scale * step), target, w) > loss and scale > 1e-8:
            scale /= 2
        parameters = parameters - scale * step
        previous, loss = loss, _loss(features @ parameters, target, w)
        if previous - loss <= 1e-12 * max(1.0, abs(loss)):
            break
    return Calibration(max(float(parameters[0]), MINIMUM_SLOPE), float(parameters[1]))


def _loss(logits: Floats, targets: Floats, weights: Floats) -> float:
    return float((weights * (np.logaddexp(0.0, logits) - targets * logits)).sum())


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 10
) -> float:
    """Mean gap between confidence and frequency over equal-width bins, weighted by size.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", 2015,
    on the probability of the positive class. Returns a number in [0, 1].
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    if p.size == 0 or p.shape != y.shape:
        raise ValueError("probabilities and labels must be of one length, and not empty")
    index = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=p - y, minlength=bins)
    return float(np.abs(gaps).sum() / p.size)
