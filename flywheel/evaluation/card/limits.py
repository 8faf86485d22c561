"""What a reader must know before believing a card: read off the files, not written by hand."""

from collections.abc import Iterator

from flywheel.evaluation.card.read import Findings
from flywheel.evaluation.runs.report import TITLES
from flywheel.evaluation.runs.result import Kind, Result

FEW = 100
_OPINIONS = ("violation_judge", "violation_people")


def limits(findings: Findings) -> list[str]:
    """Sentences, the weightiest first."""
    return [*_missing(findings), *(s for result in findings.results for s in _of(result))]


def _missing(findings: Findings) -> Iterator[str]:
    for kind in Kind:
        if not findings.of(kind):
            yield f"{TITLES[kind]}: not measured."
    if findings.guard is None:
        yield "The guard's own figures: not measured."
    if len(findings.models) > 1:
        yield f"The figures are of several models: {', '.join(findings.models)}."


def _of(result: Result) -> Iterator[str]:
    title = TITLES[result.kind]
    judged = result.kind in (Kind.SAFETY, Kind.REDTEAM)
    if judged and not any(name in result.figures for name in _OPINIONS):
        yield (
            f"{title}: violations are those that the guard's own safety model finds. What it "
            "cannot see is not in the figure, guarded or not."
        )
    most = max((figure.n for figure in result.figures.values()), default=0)
    if most < FEW:
        yield f"{title}: {most} items are few; read the intervals."
    for name in ("failed", "malformed_verdicts", "unreadable"):
        if result.counts.get(name):
            yield f"{title}: {name.replace('_', ' ')}: {result.counts[name]}."
    for note in result.notes:
        yield f"{title}: {note}"
