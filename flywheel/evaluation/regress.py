"""Has a model become worse? Two results of the same items, compared item by item.

    found = regress(Result.read(before), Result.read(after), {"helpfulness": 0.02})
    if found.worse:                     # the comparisons that fail, worst first
        ...
    found.as_json()

`safechat eval regress` is the same as a command. Promotion puts the stricter question to the same
comparison (`flywheel/measures/paired.py`): is a worsening ruled out?
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.evaluation.runs.result import Result
from flywheel.measures.metrics import metric
from flywheel.measures.paired import Change, change


class NotComparable(ValueError):
    """The results share no item and metric, or a metric that was named is in neither."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric. limit: the worsening that is put up with, 0 or more, in the metric's own unit."""

    paired: Change
    limit: float

    @property
    def metric(self) -> str:
        return self.paired.metric

    @property
    def worse(self) -> bool:
        """The mean has worsened by more than the limit, and beyond doubt that it worsened."""
        return self.paired.shows_worsening(self.limit)

    def as_json(self) -> dict[str, Any]:
        of = self.paired
        return {
            "metric": of.metric,
            "n": of.n,
            "before": of.before,
            "after": of.after,
            "change": of.change,
            "interval": of.interval and list(of.interval),
            "limit": self.limit,
            "worse": self.worse,
        }


@dataclass(frozen=True, slots=True)
class Regression:
    """Every metric with a better direction. left_out: items that only one result has."""

    comparisons: tuple[Comparison, ...]
    left_out: int

    @property
    def worse(self) -> tuple[Comparison, ...]:
        """What fails, the greatest worsening first."""
        failing = [comparison for comparison in self.comparisons if comparison.worse]
        return tuple(sorted(failing, key=lambda found: -found.paired.worsening))

    def as_json(self) -> dict[str, Any]:
        return {
            "worse": [comparison.metric for comparison in self.worse],
            "left_out": self.left_out,
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
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
    if not before.items.keys() & after.items.keys():
        raise NotComparable("the two results have no item in common")
    groups = {id: item.group for id, item in before.items.items()}
    found = [
        Comparison(of, limits.get(name, default_limit))
        for name in _names(before)
        if (of := change(name, _of(before, name), _of(after, name), groups=groups, seed=seed))
    ]
    if missing := sorted(limits.keys() - {comparison.metric for comparison in found}):
        raise NotComparable(f"the results do not both measure: {', '.join(missing)}")
    if not found:
        raise NotComparable("the two results have no metric in common on the same items")
    return Regression(tuple(found), len(before.items.keys() ^ after.items.keys()))


def _names(result: Result) -> list[str]:
    """Of the metrics with a better direction that any item has."""
    measured = {name for item in result.items.values() for name in item.values}
    return [name for name in sorted(measured) if metric(name).higher_is_better is not None]


def _of(result: Result, name: str) -> dict[str, float]:
    return {id: item.values[name] for id, item in result.items.items() if name in item.values}
