"""The shipped rules: each alert fires, resolves, and has a section that says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_server import RULES, shipped_groups

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SCENARIOS = sorted((ROOT / "tests/rules").glob("*.yaml"))
ALERTS = [rule for group in shipped_groups() for rule in group["rules"] if "alert" in rule]
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def promtool(*words: str | Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: `make test` installs it")
    ended = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_accepts_the_rules() -> None:
    promtool("check", "rules", RULES)


@pytest.mark.parametrize("scenarios", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_and_resolve_on_synthetic_series(scenarios: Path) -> None:
    promtool("test", "rules", scenarios)


def expectations(alert: str) -> list[tuple[bool, bool]]:
    """Of each check of an alert's state: whether it fires, and whether it fired before."""
    found = list[tuple[bool, bool]]()
    for path in SCENARIOS:
        for scenario in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            fired = False
            for check in scenario["promql_expr_test"]:
                if f'alertname="{alert}"' in check["expr"]:
                    fires = bool(check.get("exp_samples"))
                    found.append((fires, fired))
                    fired = fired or fires
    return found


@each_alert
def test_the_scenarios_see_it_fire_and_then_resolve(alert: dict[str, Any]) -> None:
    seen = expectations(alert["alert"])
    assert (True, False) in seen
    assert (False, True) in seen


@each_alert
def test_it_says_how_urgent_it_is_and_has_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{alert['alert'].lower()}"
    assert f"\n### {alert['alert']}\n" in OPERATIONS


def test_no_section_is_left_of_an_alert_that_is_gone() -> None:
    sections = re.findall(r"^### (SafeChat\w+)$", OPERATIONS, re.M)
    assert sorted(sections) == sorted(alert["alert"] for alert in ALERTS)
