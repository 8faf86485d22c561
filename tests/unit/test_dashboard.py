"""The checked-in dashboard is what its source makes, and complete."""

import json
from pathlib import Path

import pytest

from helm.dashboard import ROWS, dashboard

FILE = Path(__file__).parents[2] / "helm/safechat/files/dashboard.json"


def test_the_dashboard_in_the_chart_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard(), "run `make dashboard`"


def test_it_has_a_row_for_each_question() -> None:
    panels = json.loads(dashboard())["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Safety", "Quality", "Latency", "Capacity", "Flywheel"]


def test_no_panel_covers_another() -> None:
    taken = set[tuple[int, int]]()
    for panel in json.loads(dashboard())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("row", list(ROWS))
def test_titles_are_told_apart(row: str) -> None:
    titles = [panel.title for panel in ROWS[row]]
    assert len(set(titles)) == len(titles)
