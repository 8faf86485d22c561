"""Every value file gives manifests that Kubernetes accepts."""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.helm.chart import CHART, CI, ROOT, Object, component_of, every_case, helm, one, render

# What the API itself does not define, so that no schema of it is at hand.
CUSTOM = {"PrometheusRule", "ServiceMonitor", "HTTPRoute", "LeaderWorkerSet"}


@every_case
def test_lint_finds_nothing(case: Path | None) -> None:
    done = helm("lint", "--strict", str(CHART), *(["-f", str(case)] if case else []))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", ["1.31.0", "1.35.0"])
@every_case
def test_every_object_fits_the_schema_of_kubernetes(case: Path | None, version: str) -> None:
    for thing in render(case):
        if thing["kind"] not in CUSTOM:
            kubernetes_validate.validate(thing, version, strict=True)


def test_the_cases_make_every_template_speak() -> None:
    templates = {str(p.relative_to(CHART)) for p in (CHART / "templates").rglob("*.yaml")}
    spoken = set()
    for case in CI:
        done = helm("template", "chat", str(CHART), *(["-f", str(case)] if case else []))
        spoken |= {
            line.split("safechat/")[1] for line in done.stdout.splitlines() if "# Source" in line
        }
    assert templates - spoken == {"templates/checks.yaml"}


@every_case
def test_labels_are_the_standard_ones_and_selectors_find_their_pods(case: Path | None) -> None:
    standard = {"name", "instance", "component", "version", "managed-by", "part-of"}
    for thing in render(case):
        labels = thing["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in standard} <= set(labels)
        if thing["kind"] in ("Deployment", "StatefulSet"):
            selector = thing["spec"]["selector"]["matchLabels"]
            assert selector.items() <= thing["spec"]["template"]["metadata"]["labels"].items()
            assert "app.kubernetes.io/version" not in selector


@every_case
def test_names_are_short_enough_and_unique(case: Path | None) -> None:
    names = [(o["kind"], o["metadata"]["name"]) for o in render(case)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


def test_rules_and_dashboard_are_those_of_the_files() -> None:
    objects = render(CHART / "ci/cluster-13b.yaml")
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
    assert one(objects, "PrometheusRule", "rules")["spec"] == rules
    board: Object = one(objects, "ConfigMap", "dashboard")["data"]
    assert yaml.safe_load(board["safechat.json"])["panels"]


def test_alerts_link_to_where_the_runbooks_are_published() -> None:
    page = "https://wiki.example.com/safechat"
    objects = render(CHART / "ci/cluster-13b.yaml", f"monitoring.prometheusRule.runbooks={page}")
    for group in one(objects, "PrometheusRule", "rules")["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}"


def test_readme_and_schema_are_made_of_the_values() -> None:
    words = [sys.executable, "-m", "helm.generate", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gateway_scales_on_streams_and_cpu() -> None:
    objects = render(CHART / "ci/cluster-13b.yaml")
    scaler = one(objects, "HorizontalPodAutoscaler", "gateway")["spec"]
    measures = [m["type"] for m in scaler["metrics"]]
    assert measures == ["Resource", "Pods"]
    assert scaler["metrics"][1]["pods"]["metric"]["name"] == "safechat_turns_in_flight"
    assert "replicas" not in one(objects, "Deployment", "gateway")["spec"]


def test_only_the_api_and_the_chat_page_are_opened_to_the_world() -> None:
    for case, kind in (("cluster-13b", "Ingress"), ("two-nodes-70b", "HTTPRoute")):
        [route] = [o for o in render(CHART / f"ci/{case}.yaml") if o["kind"] == kind]
        assert component_of(route) == "gateway"
        text = yaml.safe_dump(route["spec"])
        assert "/v1" in text
        assert "metrics" not in text
        assert "engine" not in text


def test_the_notes_say_what_to_do_next() -> None:
    done = helm("install", "chat", str(CHART), "--dry-run=client")
    notes = done.stdout.split("NOTES:")[1]
    assert "helm -n default test chat" in notes
    assert "create secret generic safechat-api-keys" in notes
    assert "Network policies are off" not in notes
