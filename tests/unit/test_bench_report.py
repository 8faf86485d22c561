"""The page of benchmarks shows what was recorded, and nothing that was written in by hand."""

import json
from pathlib import Path

from loadtests import aims
from loadtests.bench import PARTS
from loadtests.report import figures

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_what_was_recorded() -> None:
    results = json.loads((DOCS / "benchmarks" / "results.json").read_text("utf-8"))
    assert figures(results) in (DOCS / "benchmarks.md").read_text("utf-8")


def test_an_aim_is_held_missed_or_not_recorded() -> None:
    turns = {"figures": {"ratio": 1.6}}
    held = {words: (measured, holds) for words, measured, holds in aims.rows({"turns": turns})}
    assert held["turn 20: at most 1.5 times turn 3"] == ("1.60", "**no**")
    assert held["a thousand streams: none fails"] == ("not recorded", "")


def test_a_part_is_shown_as_the_command_that_it_is() -> None:
    assert PARTS["guarded"].command == (
        "SAFECHAT_GUARD__TIMEOUT_S=60 python -m loadtests.guarded --rounds 2"
    )
