"""The card as HTML and as Markdown, with the same content."""

from html import escape
from pathlib import Path
from typing import Any, Final

from flywheel.evaluation.card.limits import limits
from flywheel.evaluation.card.read import Findings, GuardLine
from flywheel.evaluation.runs.report import TITLES, environment
from flywheel.evaluation.runs.result import Kind, Result

_NAMES: Final = ("card.html", "card.md")


def write_card(findings: Findings, folder: Path, name: str) -> list[Path]:
    """Write card.html and card.md, and return where. name: of the system. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = environment()
    templates.filters["cell"] = _cell
    templates.globals["numbers_of"] = lambda r: [*r.measures.items(), *r.timing.items()]
    paths = [folder / name for name in _NAMES]
    for path in paths:
        text = templates.get_template(f"{path.name}.jinja").render(_content(findings, name))
        path.write_text(text, encoding="utf-8")
    return paths


def _content(findings: Findings, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "findings": findings,
        "sections": [
            (TITLES[kind], [(_about(result), result) for result in findings.of(kind)])
            for kind in Kind
            if findings.of(kind)
        ],
        "guard_rows": [
            (line.source, line.n, *_guard_cells(line))
            for line in (findings.guard.results if findings.guard else ())
        ],
        "limits": limits(findings),
    }


def _about(result: Result) -> str:
    """What was asked, by whom it was judged, and the command, in one line."""
    about = result.about
    files = ", ".join(f"{one['file']} ({one['sha256'][:12]})" for one in about.get("files", ()))
    judges = [*about.get("guard_models", ()), *([about["judge_model"]] if "judge" in about else [])]
    parts = {
        "asked": f"{about.get('model', '')} at {about.get('url', '')}",
        "against": f"{about['against_model']} at {about['against']}" if "against" in about else "",
        "judged by": ", ".join(judges),
        "prompts": files,
        "command": str(about.get("command", "")),
    }
    return "; ".join(f"{what}: {said}" for what, said in parts.items() if said)


def _guard_cells(line: GuardLine) -> tuple[str, str, str, str]:
    def cell(name: str, value: float | None) -> str:
        if value is None:
            return ""
        interval = line.intervals.get(name)
        return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")

    return (
        cell("auc", line.auc),
        cell("recall", line.recall),
        cell("false_positive_rate", line.false_positive_rate),
        cell("pair_accuracy", line.pair_accuracy),
    )


def _cell(text: object) -> str:
    """Text that stays within its cell of a Markdown table, and is no markup."""
    return " ".join(escape(str(text), quote=False).replace("|", "\\|").split())
