"""From values by item to figures, over all and by group."""

from collections import defaultdict
from collections.abc import Mapping

from flywheel.evaluation.runs.figures import mean
from flywheel.evaluation.runs.result import Figure

ByItem = Mapping[str, Mapping[str, float]]


def figures_of(
    values: ByItem, seed: int, prompts: Mapping[str, str] | None = None
) -> dict[str, Figure]:
    """A figure for each metric that any item has.

    values: by item and metric. prompts: which prompt an item comes from, where several share one.
    """
    found: dict[str, tuple[list[float], list[str]]] = {}
    for id, measured in values.items():
        for name, value in measured.items():
            of, groups = found.setdefault(name, ([], []))
            of.append(value)
            groups.append((prompts or {}).get(id, id))
    return {name: mean(of, groups, seed) for name, (of, groups) in sorted(found.items())}


def grouped(
    values: ByItem, group: Mapping[str, str], seed: int, prompts: Mapping[str, str] | None = None
) -> dict[str, dict[str, Figure]]:
    """The same by group. group: the group of each item."""
    members: defaultdict[str, dict[str, Mapping[str, float]]] = defaultdict(dict)
    for id, measured in values.items():
        members[group[id]][id] = measured
    return {name: figures_of(members[name], seed, prompts) for name in sorted(members)}
