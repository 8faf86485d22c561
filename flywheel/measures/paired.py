"""The same items measured before and after: by how much has it changed, and what does that show?

Values of one item form a pair, and pairs are drawn in the bootstrap: what makes one item harder
than another drops out (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter
16). Two questions can be put to one change. A watch over drift asks whether a worsening is shown,
so that noise raises no alarm. A gate asks whether a worsening is ruled out, so that a measurement
that is too rough lets nothing pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.measures.bootstrap import Bootstrap
from flywheel.measures.metrics import metric


@dataclass(frozen=True, slots=True)
class Change:
    """One metric on the items that were measured both times.

    before, after: means over those n items. interval: of `change`, 95 %; None of a single prompt.
    """

    metric: str
    n: int
    before: float
    after: float
    interval: tuple[float, float] | None

    @property
    def change(self) -> float:
        """After less before, in the metric's own unit."""
        return self.after - self.before

    @property
    def worsening(self) -> float:
        """The change, turned so that more is worse."""
        return 0.0 - self.change if metric(self.metric).higher_is_better else self.change

    @property
    def worsening_interval(self) -> tuple[float, float] | None:
        """From the least worsening that is likely to the greatest; None of a single prompt."""
        if self.interval is None or not metric(self.metric).higher_is_better:
            return self.interval
        # Less, not minus: no change is 0 then, and not -0.
        return 0.0 - self.interval[1], 0.0 - self.interval[0]

    def shows_worsening(self, limit: float) -> bool:
        """Whether it has worsened by more than `limit`, beyond doubt that it worsened at all."""
        bounds = self.worsening_interval
        return self.worsening > limit and bounds is not None and bounds[0] > 0

    def rules_out_worsening(self, margin: float) -> bool:
        """Whether the whole interval of the worsening lies below `margin`, or just reaches it."""
        bounds = self.worsening_interval
        return bounds is not None and bounds[1] <= margin


def change(
    name: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Change | None:
    """Compare a metric's values by item; None where no item has both.

    name: of a metric with a better direction. groups: the prompt of each item, where several come
    from one; they are drawn together. Raises KeyError for a metric that nobody knows.
    """
    both = sorted(before.keys() & after.keys())
    if not both:
        return None
    old = np.array([before[id] for id in both])
    new = np.array([after[id] for id in both])
    draws = Bootstrap([(groups or {}).get(id, id) for id in both], seed)
    return Change(
        metric=name,
        n=len(both),
        before=float(old.mean()),
        after=float(new.mean()),
        interval=draws.interval(draws.mean(new - old)),
    )
