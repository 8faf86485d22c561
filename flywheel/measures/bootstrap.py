"""Intervals by the bootstrap over groups of rows.

Rows of one prompt are alike, so whole prompts are drawn, with all of their rows: else twenty
questions asked a thousand times would look like a thousand. A figure is computed for all draws
at once, from how often each row was drawn.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from guard.reward.calibration import Floats

DRAWS = 1000
LEVEL = 0.95
_DRAWS_AT_ONCE = 100


class Bootstrap:
    """Draws of whole groups with replacement, the same ones for every figure of a table row.

    groups: what each row belongs to. draws: how often each draw holds each row, (draws, rows).
    """

    def __init__(self, groups: Sequence[Hashable], seed: int, draws: int = DRAWS) -> None:
        numbers: dict[Hashable, int] = {}
        group = np.array([numbers.setdefault(g, len(numbers)) for g in groups])
        chance = np.random.default_rng(seed)
        even = np.full(len(numbers), 1 / len(numbers))
        self._group = group
        self._counts = chance.multinomial(len(numbers), even, size=draws).astype(np.float64)

    @property
    def groups(self) -> int:
        return int(self._counts.shape[1])

    def sums(self, values: Floats) -> Floats:
        """(rows,) to (draws,), or (rows, k) to (draws, k): the sum over each draw's rows."""
        by_group = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(by_group, self._group, values)
        return np.asarray(self._counts @ by_group)

    def ratio(self, above: Floats, below: Floats) -> Floats:
        """The quotient of two sums in each draw; nan where the lower one is zero."""
        return quotient(self.sums(above), self.sums(below))

    def mean(self, values: Floats) -> Floats:
        """(rows,) to (draws,): the mean over each draw's rows."""
        return self.ratio(values, np.ones_like(values))

    def auc(self, positive: Floats, risk: Floats) -> Floats:
        """Area under the ROC curve in each draw; nan where a class is missing."""
        blocks = range(0, len(self._counts), _DRAWS_AT_ONCE)
        return np.concatenate(
            [
                weighted_auc(positive, risk, self._counts[i : i + _DRAWS_AT_ONCE, self._group])
                for i in blocks
            ]
        )

    def interval(self, figures: Floats) -> tuple[float, float] | None:
        """Percentile interval of a figure's draws; None of too little to draw from."""
        if self.groups < 2 or np.isnan(figures).all():
            return None
        low, high = np.nanquantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def weighted_auc(positive: Floats, risk: Floats, weights: Floats) -> Floats:
    """Mann-Whitney's statistic for many weightings at once, ties counted half.

    positive, risk: (rows,); weights: (draws, rows). Returns (draws,), nan without a class.
    """
    order = np.argsort(risk, kind="stable")
    starts = np.flatnonzero(np.diff(risk[order], prepend=-np.inf))
    weights, label = weights[:, order], positive[order]
    above = np.add.reduceat(weights * label, starts, axis=1)
    below = np.add.reduceat(weights * (1 - label), starts, axis=1)
    beaten = np.cumsum(below, axis=1) - below / 2
    all_pairs = above.sum(axis=1) * below.sum(axis=1)
    wins = (above * beaten).sum(axis=1)
    return quotient(wins, all_pairs)


def quotient(above: Floats, below: Floats) -> Floats:
    """Elementwise, nan where `below` is zero."""
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0))
