"""The agreement of a file's raters by source, and within it by task, batch and rater."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.agreement.coefficients import (
    cohen_kappa,
    fleiss_kappa,
    gwet,
    krippendorff_alpha,
)
from flywheel.agreement.estimate import Estimate
from flywheel.agreement.raters import Standing, standings
from flywheel.agreement.ratings import Category, Item, Scale
from flywheel.agreement.weights import Weights

UNORDERED = "the categories are words without a known order, which these weights need"


@dataclass(frozen=True, slots=True)
class Summary:
    """All coefficients of one group of items.

    n: items. n_paired: those of them with at least two ratings, which is what agreement is
    about. ac2_weights: identity where the categories have no order; AC2 is then AC1. An
    ordinal alpha stands beside the nominal one where they have an order.
    """

    n: int
    n_paired: int
    ratings: int
    categories: tuple[Category, ...]
    ac2_weights: Weights
    estimates: Mapping[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """Flat: each coefficient, its `_interval`, and a `_reason` where one is missing."""
        return {
            "n": self.n,
            "n_paired": self.n_paired,
            "ratings": self.ratings,
            "categories": list(self.categories),
            "ac2_weights": self.ac2_weights.value,
        } | _flat(self.estimates)


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source: over all, and by task, batch and rater where the ratings name them."""

    summary: Summary
    by_task: Mapping[str, Summary]
    by_batch: Mapping[str, Summary]
    by_rater: Mapping[str, Standing]

    def as_json(self) -> dict[str, Any]:
        """The summary's fields, with the groups beside them."""
        return self.summary.as_json() | {
            "by_task": {name: group.as_json() for name, group in self.by_task.items()},
            "by_batch": {name: group.as_json() for name, group in self.by_batch.items()},
            "by_rater": {name: _standing_json(rater) for name, rater in self.by_rater.items()},
        }


def summarise(items: Sequence[Item], scale: Scale, weights: Weights) -> Summary:
    """The coefficients of items that share a scale; AC2 takes the given weights."""
    counts = scale.counts(items)
    ratings = counts.sum(axis=1)
    identity = Weights.IDENTITY.matrix(scale.positions)
    estimates = {
        "ac1": gwet(counts, identity),
        "ac2": Estimate(None, reason=UNORDERED),
        "fleiss_kappa": fleiss_kappa(counts),
        "krippendorff_alpha": krippendorff_alpha(counts, scale.positions, ordered=False),
        "cohen_kappa": cohen_kappa(scale.pairs(items), len(scale.categories)),
    }
    if weights is Weights.IDENTITY or scale.ordered or scale.numeric:
        estimates["ac2"] = gwet(counts, weights.matrix(scale.positions))
    if scale.ordered:
        estimates["krippendorff_alpha_ordinal"] = krippendorff_alpha(
            counts, scale.positions, ordered=True
        )
    return Summary(
        n=len(items),
        n_paired=int((ratings > 1).sum()),
        ratings=int(ratings.sum()),
        categories=scale.categories,
        ac2_weights=weights,
        estimates=estimates,
    )


def report(
    items: Sequence[Item],
    *,
    orders: Mapping[str, Sequence[Category]] | None = None,
    weights: Weights | None = None,
) -> Iterator[tuple[str, SourceReport]]:
    """Source by source, in the order of the file.

    orders: by source, the categories from one end to the other, where they have an order.
    weights: of AC2; by default quadratic where there is an order and identity elsewhere.
    Raises ValueError for an order that leaves a category out.
    """
    for source, of_source in _grouped(items, lambda item: item.source).items():
        scale = Scale.of(of_source, (orders or {}).get(source))
        chosen = weights or _usual(scale)
        by_task = _grouped(of_source, lambda item: item.task)
        by_batch = _grouped(of_source, lambda item: item.batch)
        yield (
            source,
            SourceReport(
                summary=summarise(of_source, scale, chosen),
                by_task={name: summarise(some, scale, chosen) for name, some in by_task.items()},
                by_batch={name: summarise(some, scale, chosen) for name, some in by_batch.items()},
                by_rater=standings(of_source, scale, chosen),
            ),
        )


def ac2(items: Sequence[Item], orders: Mapping[str, Sequence[Category]]) -> dict[str, float]:
    """AC2 alone, by source, with the weights that `report` takes; without what has none."""
    found = dict[str, float]()
    for source, of_source in _grouped(items, lambda item: item.source).items():
        scale = Scale.of(of_source, orders.get(source))
        counts = scale.counts(of_source)
        estimate = gwet(counts, _usual(scale).matrix(scale.positions))
        if estimate.value is not None:
            found[source] = estimate.value
    return found


def _usual(scale: Scale) -> Weights:
    return Weights.QUADRATIC if scale.ordered else Weights.IDENTITY


def _grouped(
    items: Sequence[Item], name: Callable[[Item], str | None]
) -> Mapping[str, Sequence[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        if (group := name(item)) is not None:
            groups[group].append(item)
    return groups


def _flat(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, estimate in estimates.items():
        flat[name] = estimate.value
        flat[f"{name}_interval"] = None if estimate.interval is None else list(estimate.interval)
        if estimate.reason is not None:
            flat[f"{name}_reason"] = estimate.reason
    return flat


def _standing_json(rater: Standing) -> dict[str, Any]:
    return {
        "n": rater.n,
        "drifts": rater.drifts,
        "by_batch": {
            batch: _flat({"agreement": estimate}) for batch, estimate in rater.by_batch.items()
        },
    } | _flat({"agreement": rater.agreement, "drift": rater.drift})
