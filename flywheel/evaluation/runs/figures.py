"""From one value an item to a mean with a 95 % interval, drawn by prompt."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from flywheel.evaluation.runs.result import Figure
from flywheel.measures.bootstrap import LEVEL, Bootstrap


def mean(values: Sequence[float], groups: Sequence[str], seed: int) -> Figure:
    """The mean of values, and its bootstrap interval over whole groups.

    groups: what each value belongs to; values of one prompt are alike and are drawn together.
    Where all values are 0, or all are 1, a bootstrap sees no doubt at all: there the interval is
    Clopper and Pearson's for as many trials as there are groups.
    """
    if not values:
        return Figure(value=None, n=0)
    found = np.asarray(values, dtype=np.float64)
    value, several = float(found.mean()), len(set(groups))
    if np.all(found == found[0]) and found[0] in (0.0, 1.0):
        exact = binomtest(int(found[0]) * several, several).proportion_ci(LEVEL)
        return Figure(value=value, low=float(exact.low), high=float(exact.high), n=len(found))
    draws = Bootstrap(groups, seed)
    bounds = draws.interval(draws.mean(found))
    low, high = bounds or (None, None)
    return Figure(value=value, low=low, high=high, n=len(found))
