"""Plots as SVG, drawn here: they follow the page's theme, and screen readers read their numbers."""

from collections.abc import Mapping, Sequence
from html import escape

from ui.metrics import Histogram

_WIDTH, _HEIGHT, _TOP = 320, 96, 6


def bars(rows: Mapping[str, float], *, of: float | None = None) -> str:
    """A bar a row, with its name, its number and its share of `of`."""
    whole = of if of else max(rows.values(), default=0.0)
    drawn = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="track"><i style="width:{100 * value / whole if whole else 0:.1f}%"></i></td>'
        f'<td class="number">{value:,.0f}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table class="bars"><tbody>{drawn}</tbody></table>'


def line(points: Sequence[tuple[float, float | None]], name: str, unit: str) -> str:
    """A value over time, from zero to its highest; `unit` is `%`, `ms` or empty."""
    known = [(time, value) for time, value in points if value is not None]
    highest = max((value for _, value in known), default=0.0)
    top = highest or 1.0
    if not known:
        return _frame(name, "nothing measured yet", "", "0", _said(0, unit))
    first, last = known[0][0], known[-1][0]
    span = (last - first) or 1.0
    room = _HEIGHT - _TOP
    placed = [
        (_WIDTH * (time - first) / span, _HEIGHT - room * value / top) for time, value in known
    ]
    if len(placed) == 1:
        placed.append((_WIDTH, placed[0][1]))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    area = f"0,{_HEIGHT} {path} {placed[-1][0]:.1f},{_HEIGHT}"
    drawing = f'<polygon class="area" points="{area}"/><polyline class="line" points="{path}"/>'
    summary = f"now {_said(known[-1][1], unit)}, highest {_said(highest, unit)}"
    return _frame(name, summary, drawing, f"{_minutes(last - first)} ago", _said(highest, unit))


def distribution(histogram: Histogram, name: str) -> str:
    """How often scores fell into each twentieth of [0, 1]."""
    counts = [
        count for bound, count in zip(histogram.bounds, histogram.counts, strict=True) if bound <= 1
    ]
    total, top = sum(counts), max(counts, default=0.0) or 1.0
    width = _WIDTH / max(len(counts), 1)
    room = _HEIGHT - _TOP
    drawing = "".join(
        f'<rect x="{i * width + 1:.1f}" y="{_HEIGHT - room * count / top:.1f}" '
        f'width="{width - 2:.1f}" height="{room * count / top:.1f}" class="{_kind(bound)}">'
        f"<title>up to {bound:.2f}: {count:,.0f}</title></rect>"
        for i, (bound, count) in enumerate(zip(histogram.bounds, counts, strict=False))
    )
    below = sum(c for b, c in zip(histogram.bounds, counts, strict=False) if b <= 0.5)
    summary = f"{total:,.0f} scores, {below:,.0f} of them at most 0.5"
    return _frame(name, summary, drawing, "0", f"{top:,.0f}", right="1")


def _kind(bound: float) -> str:
    return "poor" if bound <= 0.5 else "fair" if bound <= 0.7 else "good"


def _frame(
    name: str, summary: str, drawing: str, left: str, top: str, *, right: str = "now"
) -> str:
    label = escape(f"{name}: {summary}", quote=True)
    return (
        f'<figure class="plot"><figcaption>{escape(name)}<b>{escape(summary)}</b></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><line class="floor" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" '
        f'y2="{_HEIGHT}"/>{drawing}</svg><p class="axis"><span>{escape(left)}</span>'
        f"<span>top: {escape(top)}</span><span>{escape(right)}</span></p></figure>"
    )


def _said(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.1%}"
    if unit == "ms":
        return f"{1000 * value:,.0f} ms"
    return f"{value:,.0f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
