"""A result as a page for people: figures with intervals, plots, and how it was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flywheel.evaluation.runs import charts
from flywheel.evaluation.runs.result import Figure, Kind, Result
from flywheel.measures.metrics import metric

REPORT_FILE: Final = "report.html"
TITLES: Final = {
    Kind.SAFETY: "Safety",
    Kind.REFUSAL: "False refusals",
    Kind.HELPFULNESS: "Helpfulness",
    Kind.BENCHMARKS: "Benchmarks",
    Kind.REDTEAM: "Red teaming",
}
# A plot of a group of one says less than its row in the table.
_LEAST_BARS: Final = 2


def written(figure: Figure, *, share: bool) -> str:
    """A figure as people read it: 12.5 % (8.1–17.9)."""
    if figure.value is None:
        return "–"
    scale, unit = (100, " %") if share else (1, "")
    digits = 1 if share else 3
    text = f"{figure.value * scale:.{digits}f}{unit}"
    if figure.interval is None:
        return text
    low, high = (bound * scale for bound in figure.interval)
    return f"{text} ({low:.{digits}f}–{high:.{digits}f})"


def figure_rows(figures: Mapping[str, Figure]) -> list[tuple[str, str, int]]:
    """Words, figure and number of values of each metric."""
    return [
        (metric(name).words, written(figure, share=metric(name).share), figure.n)
        for name, figure in figures.items()
    ]


def environment() -> Environment:
    """Templates of this package; everything put into a page is escaped."""
    made = Environment(
        loader=PackageLoader("flywheel.evaluation", "templates"),
        autoescape=lambda name: not (name or "").endswith(".md.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["figure_rows"] = figure_rows
    return made


def render(result: Result) -> str:
    """The page, complete in itself."""
    page = environment().get_template("report.html.jinja")
    return page.render(
        title=TITLES[result.kind],
        result=result,
        numbers=[*result.measures.items(), *result.timing.items()],
        plots=_plots(result),
        about=_flat(result.about),
    )


def write_report(result: Result, folder: Path) -> Path:
    """Raises OSError."""
    path = folder / REPORT_FILE
    path.write_text(render(result), encoding="utf-8")
    return path


def _plots(result: Result) -> list[tuple[str, Markup]]:
    """Title and SVG of each plot."""
    found = []
    for axis, groups in result.groups.items():
        for name in result.figures:
            shown = {group: of[name] for group, of in groups.items() if name in of}
            if len(shown) >= _LEAST_BARS and metric(name).higher_is_better is not None:
                words = metric(name).words
                # matplotlib escapes the names of groups.
                found.append((f"{words}, by {axis}", Markup(charts.bars(shown, words))))
    found += [(curve.title, Markup(charts.curve(curve))) for curve in result.curves]
    return found


def _flat(about: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in about.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            for one in value:
                found[f"{prefix}{name}: {next(iter(one.values()))}"] = ", ".join(
                    str(said) for said in list(one.values())[1:]
                )
        else:
            found[f"{prefix}{name}"] = (
                ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            )
    return found
