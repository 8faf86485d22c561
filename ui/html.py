"""Small pieces of HTML that more than one page is made of. Values are escaped here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr


def piece(value: str = "", **look: Any) -> gr.HTML:
    """HTML in a page, dressed by our own style sheets alone."""
    return gr.HTML(value, apply_default_css=False, **look)


def notice(kind: str, text: str, title: str) -> str:
    """kind: `failed`, `blocked` or `done`. A failure is announced by screen readers."""
    role = "alert" if kind == "failed" else "note"
    return (
        f'<div class="notice {kind}" role="{role}"><strong>{escape(title)}</strong>'
        f"{escape(text)}</div>"
    )


def facts(rows: Mapping[str, str]) -> str:
    """Names with their values; empty ones are left out."""
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value
    )
    return f'<dl class="facts">{listed}</dl>'


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Collection[int] = (),
) -> str:
    """Cells are HTML already. numbers: columns that are set flush right."""

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    top = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    body = "".join(
        f"<tr>{''.join(f'<td{kind(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="plain"><caption class="sr-only">{escape(caption)}'
        f"</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def percent(value: float | None, word: str = "") -> str:
    return "" if value is None else f"{value:.0%} {word}".strip()


def plain(name: object) -> str:
    """An identifier of the API as words."""
    if isinstance(name, bool):
        return "yes" if name else "no"
    return "" if name is None else str(name).replace("_", " ")


def section(title: str, body: str) -> str:
    """A card with a heading; `body` is HTML already."""
    return f'<section class="card"><h2>{escape(title)}</h2>{body}</section>'
