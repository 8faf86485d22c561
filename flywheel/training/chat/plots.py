"""Plots of the stages' curves, in one style."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def lines(
    path: Path,
    curves: Mapping[str, Sequence[float]],
    across: str,
    up: str,
    *,
    places: Sequence[float] | None = None,
) -> None:
    """One line for each curve; places: where on the x-axis, 1, 2, 3, … without."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, values in curves.items():
        at = list(places or range(1, len(values) + 1))
        axes.plot(at, list(values), marker="o", markersize=3, label=name)
    axes.set(xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
