"""The system card: made from result files alone, and honest about what they leave out."""

import json
from pathlib import Path

import pytest

from flywheel.evaluation.card.limits import limits
from flywheel.evaluation.card.read import read_findings
from flywheel.evaluation.card.write import write_card
from flywheel.evaluation.runs.result import Figure, Kind, Result, UnreadableResult

GUARD = {
    "results": [
        {
            "source": "all prompts",
            "kind": "prompt",
            "n": 9,
            "pooled": True,
            "auc": 0.9,
            "intervals": {"auc": [0.8, 0.95]},
        }
    ],
    "models": {"safety": "judge@4"},
    "thresholds": {"prompt": 0.5, "response": 0.4},
    "split": "test",
}


def run(folder: Path, kind: Kind, figure: Figure, **more: object) -> Path:
    about = {"model": "m|<b>", "url": "http://x", "guard_models": ["judge@4", "helper@2"]}
    name = "violation" if kind in (Kind.SAFETY, Kind.REDTEAM) else "helpfulness"
    parts = {"kind": kind, "about": about, "figures": {name: figure}} | more
    folder.mkdir()
    Result.model_validate(parts).write(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    guard = tmp_path / "guard.json"
    guard.write_text(json.dumps(GUARD), encoding="utf-8")
    some = Figure(value=0.1, low=0.05, high=0.2, n=200)
    return [
        guard,
        run(tmp_path / "refusal", Kind.REFUSAL, some),
        run(tmp_path / "safety", Kind.SAFETY, some, counts={"failed": 3}) / "result.json",
    ]


def test_both_cards_hold_figures_models_and_thresholds(tmp_path: Path, files: list[Path]) -> None:
    page, text = (p.read_text("utf-8") for p in write_card(read_findings(files), tmp_path, "Ours"))
    for words in ("Ours", "10.0 % (5.0–20.0)", "judge@4, helper@2", "0.900 (0.800–0.950)", "0.4"):
        assert words in page
        assert words in text
    assert page.index("Safety") < page.index("False refusals")
    assert "<b>" not in page + text
    assert "m\\|&lt;b&gt;" in text
    assert "the guard's own safety model" in text
    assert "| all prompts | 9 |" in text


def test_what_was_not_measured_or_went_wrong_is_said(files: list[Path]) -> None:
    said = limits(read_findings(files))
    assert "Red teaming: not measured." in said
    assert any("failed: 3" in sentence for sentence in said)
    assert any("the guard's own safety model finds" in sentence for sentence in said)
    assert not any("guard's own figures: not measured" in sentence for sentence in said)


def test_few_items_are_called_few(tmp_path: Path) -> None:
    found = read_findings([run(tmp_path / "s", Kind.SAFETY, Figure(value=0.0, n=20))])
    assert any("20 items are few" in sentence for sentence in limits(found))


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableResult, match="name at least one"):
        read_findings([])
    other = tmp_path / "other.json"
    other.write_text("[]", encoding="utf-8")
    with pytest.raises(UnreadableResult, match=r"other\.json is no result file"):
        read_findings([other])
    other.write_text(json.dumps(GUARD | {"split": None}), encoding="utf-8")
    with pytest.raises(UnreadableResult, match="no figures of the guard"):
        read_findings([other])
