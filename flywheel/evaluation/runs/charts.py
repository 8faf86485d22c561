"""Plots of a result, as SVG that stands in the page itself."""

from collections.abc import Mapping
from io import StringIO
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from flywheel.evaluation.runs.result import Curve, Figure

# Without a salt and a date, two drawings of the same thing differ.
_REPEATABLE: Final[dict[Any, Any]] = {"svg.hashsalt": "safechat", "svg.fonttype": "none"}


def bars(figures: Mapping[str, Figure], words: str) -> str:
    """A bar for each group, with its interval."""
    shown = {name: figure for name, figure in figures.items() if figure.value is not None}
    canvas = Canvas(figsize=(7, 0.8 + 0.32 * len(shown)), layout="constrained")
    axes = canvas.add_subplot()
    names = list(shown)
    values = [figure.value or 0.0 for figure in shown.values()]
    reach = [
        [max(0.0, value - low), max(0.0, high - value)]
        for value, figure in zip(values, shown.values(), strict=True)
        for low, high in [figure.interval or (value, value)]
    ]
    axes.barh(
        [f"{name} ({shown[name].n})" for name in names],
        values,
        xerr=[list(side) for side in zip(*reach, strict=True)],
        color="#4c78a8",
        ecolor="#333333",
        capsize=2,
    )
    axes.invert_yaxis()
    axes.set(xlabel=words, xlim=(min(0.0, *values), max(1.0, *values)))
    axes.grid(axis="x", alpha=0.3)
    return _svg(canvas)


def curve(found: Curve) -> str:
    """Both shares, with some thresholds written beside their points."""
    canvas = Canvas(figsize=(6, 5), layout="constrained")
    axes = canvas.add_subplot()
    axes.plot(found.x, found.y, marker=".", color="#4c78a8")
    for threshold, x, y in zip(found.thresholds, found.x, found.y, strict=True):
        if round(threshold * 10, 6) % 2 == 0:
            axes.annotate(f"{threshold:g}", (x, y), textcoords="offset points", xytext=(5, 4))
    axes.set(xlabel=found.x_words, ylabel=found.y_words, xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    return _svg(canvas)


def _svg(canvas: Canvas) -> str:
    out = StringIO()
    with rc_context(_REPEATABLE):
        canvas.savefig(out, format="svg", metadata={"Date": None})
    drawn = out.getvalue()
    return drawn[drawn.index("<svg") :]
