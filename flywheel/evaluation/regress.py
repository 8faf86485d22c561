"""Has a model become worse? Two results of the same items, compared item by item.

    found = regress(Result.read(before), Result.read(after), {"helpfulness": 0.02})
    if found.worse:                     # the comparisons that fail, worst first
        ...
    found.as_json()

An item's values before and after form a pair, and pairs are drawn in the bootstrap: what makes
one prompt harder than another drops out. `safechat eval regress` is the same as a command, and
whoever promotes a model calls this with the results of the model in service and the candidate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flywheel.evaluation.guard.figures import Bootstrap
from flywheel.evaluation.runs.metrics import metric
from flywheel.evaluation.runs.result import Result


class NotComparable(ValueError):
    """The results share no item and metric, or a metric that was named is in neither."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric on the items that both results have.

    before, after: means. change: after less before, with its 95 % interval, paired by item; None
    of a single prompt.
    limit: the worsening that is put up with, 0 or more. worse: the mean has worsened by more than
    that, and the interval leaves no room for no change at all.
    """

    metric: str
    n: int
    before: float
    after: float
    change: float
    interval: tuple[float, float] | None
    limit: float
    worse: bool


@dataclass(frozen=True, slots=True)
class Regression:
    """Every metric with a better direction. left_out: items that only one result has."""

    comparisons: tuple[Comparison, ...]
    left_out: int

    @property
    def worse(self) -> tuple[Comparison, ...]:
        """What fails, the greatest worsening first."""
        failing = [comparison for comparison in self.comparisons if comparison.worse]
        return tuple(sorted(failing, key=lambda c: -abs(c.change)))

    def as_json(self) -> dict[str, Any]:
        return {
            "worse": [comparison.metric for comparison in self.worse],
            "left_out": self.left_out,
            "comparisons": [
                {
                    "metric": c.metric,
                    "n": c.n,
                    "before": c.before,
                    "after": c.after,
                    "change": c.change,
                    "interval": c.interval and list(c.interval),
                    "limit": c.limit,
                    "worse": c.worse,
                }
                for c in self.comparisons
            ],
        }


def regress(
    before: Result,
    after: Result,
    limits: Mapping[str, float] | None = None,
    *,
    default_limit: float = 0.0,
    seed: int = 0,
) -> Regression:
    """Compare two results of one kind on the items that both have.

    limits: the worsening put up with, by metric, in the metric's own unit (0.02 of a share is two
    points in a hundred), whichever direction is better. default_limit: of the metrics that
    `limits` does not name. Raises NotComparable.
    """
    limits = limits or {}
    if before.kind is not after.kind:
        raise NotComparable(f"one result is of {before.kind}, the other of {after.kind}")
    shared = [id for id in before.items if id in after.items]
    if not shared:
        raise NotComparable("the two results have no item in common")
    measured = {name for id in shared for name in before.items[id].values}
    names = [name for name in sorted(measured) if metric(name).higher_is_better is not None]
    compared = [
        _compare(before, after, shared, name, limits.get(name, default_limit), seed)
        for name in names
    ]
    found = [comparison for comparison in compared if comparison is not None]
    if missing := sorted(set(limits) - {comparison.metric for comparison in found}):
        raise NotComparable(f"the results do not both measure: {', '.join(missing)}")
    if not found:
        raise NotComparable("the two results have no metric in common on the same items")
    return Regression(tuple(found), len(before.items.keys() ^ after.items.keys()))


def _compare(
    before: Result, after: Result, ids: list[str], name: str, limit: float, seed: int
) -> Comparison | None:
    both = [id for id in ids if name in before.items[id].values and name in after.items[id].values]
    if not both:
        return None
    old = np.array([before.items[id].values[name] for id in both])
    new = np.array([after.items[id].values[name] for id in both])
    draws = Bootstrap([before.items[id].group for id in both], seed)
    change = float((new - old).mean())
    interval = draws.interval(draws.ratio(new - old, np.ones_like(old)))
    better = metric(name).higher_is_better
    worsening = -change if better else change
    # The end of the interval that is nearest to the better side.
    least = None if interval is None else (-interval[1] if better else interval[0])
    return Comparison(
        metric=name,
        n=len(both),
        before=float(old.mean()),
        after=float(new.mean()),
        change=change,
        interval=interval,
        limit=limit,
        worse=worsening > limit and least is not None and least > 0,
    )
