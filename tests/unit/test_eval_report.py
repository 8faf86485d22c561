"""Reports and intervals: what people read of a result, and that names in it are only text."""

from pathlib import Path

import pytest

from flywheel.evaluation.runs.figures import mean
from flywheel.evaluation.runs.report import render, write_report, written
from flywheel.evaluation.runs.result import Curve, Figure, Kind, Published, Result
from flywheel.measures.metrics import METRICS, metric

EVIL = "<script>alert(1)</script>"


def result(**more: object) -> Result:
    figure = Figure(value=0.25, low=0.1, high=0.4, n=40)
    parts: dict[str, object] = {
        "kind": Kind.SAFETY,
        "about": {
            "model": EVIL,
            "url": "http://x",
            "sampling": {"seed": 0},
            "files": [{"file": EVIL}],
        },
        "figures": {"violation": figure},
        "groups": {"category": {EVIL: {"violation": figure}, "other": {"violation": figure}}},
        "counts": {"items": 40},
        "measures": {"ac2": None},
        "published": (Published(what="violation", model=EVIL, value=0.03, source="paper"),),
        "curves": (
            Curve(title=EVIL, x_words="x", y_words=EVIL, thresholds=(0.0, 1.0), x=(0, 1), y=(1, 0)),
        ),
        "notes": (EVIL,),
    }
    return Result.model_validate(parts | more)


def test_a_page_is_complete_in_itself_and_shows_figures_plots_and_sources() -> None:
    page = render(result())
    assert "25.0 % (10.0–40.0)" in page
    assert page.count("<svg") == 2
    assert "Published figures" in page
    assert "http://www.w3.org" in page  # SVG's own name, and no other address
    assert "src=" not in page
    assert 'href="http' not in page


def test_names_in_a_result_are_only_text() -> None:
    assert EVIL not in render(result())


def test_two_renderings_are_the_same(tmp_path: Path) -> None:
    assert write_report(result(), tmp_path).read_text(encoding="utf-8") == render(result())


@pytest.mark.parametrize(
    ("figure", "share", "text"),
    [
        (Figure(value=None, n=0), True, "–"),
        (Figure(value=0.5, n=1), True, "50.0 %"),
        (Figure(value=0.5, low=0.25, high=0.75, n=9), False, "0.500 (0.250–0.750)"),
    ],
)
def test_figures_are_written_with_their_doubt(figure: Figure, share: bool, text: str) -> None:
    assert written(figure, share=share) == text


def test_metrics_are_known_by_name_and_harness_tasks_by_theirs() -> None:
    assert all(metric(name) is METRICS[name] for name in METRICS)
    assert metric("harness/arc").higher_is_better
    with pytest.raises(KeyError):
        metric("nonsense")


def test_no_violation_in_forty_is_not_certainty() -> None:
    figure = mean([0.0] * 40, [str(n) for n in range(40)], 0)
    assert figure.value == figure.low == 0.0
    assert figure.high == pytest.approx(0.0881, abs=1e-4)  # Clopper and Pearson's: 1 - 0.025^(1/40)


def test_many_values_of_one_prompt_are_one_trial() -> None:
    same, different = (
        mean([1.0, 0.0] * 20, groups, 0)
        for groups in (
            [str(n // 20) for n in range(40)],
            [str(n) for n in range(40)],
        )
    )
    assert same.low == same.value == 0.5
    assert (different.low or 1) < 0.4
    assert mean([1.0] * 40, ["one"] * 40, 0).low == pytest.approx(0.025)


def test_nothing_measured_has_no_value() -> None:
    assert mean([], [], 0) == Figure(value=None, n=0)
