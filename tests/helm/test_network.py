"""Who may reach whom. Policies are read as Kubernetes reads them: by labels."""

from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import CHART, CI, Object, component_of, every_case, pods, render

Labels = dict[str, str]
CASES = [c for c in CI if c is None or c.stem != "own-model"]  # which turns policies off


def matches(selector: Object, labels: Labels) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def policies(objects: tuple[Object, ...], labels: Labels) -> list[Object]:
    return [
        o["spec"]
        for o in objects
        if o["kind"] == "NetworkPolicy" and matches(o["spec"]["podSelector"], labels)
    ]


def may(objects: tuple[Object, ...], source: Labels, target: Labels, port: int) -> bool:
    """Whether a connection passes the source's egress and the target's ingress."""
    return _passes(policies(objects, source), "egress", "to", target, port) and _passes(
        policies(objects, target), "ingress", "from", source, port
    )


def _passes(specs: list[Object], way: str, whom: str, labels: Labels, port: int) -> bool:
    rules: list[Any] = [rule for spec in specs for rule in spec[way]]
    return not specs or any(
        (whom not in rule or any(_is(peer, labels) for peer in rule[whom]))
        and ("ports" not in rule or port in [p["port"] for p in rule["ports"]])
        for rule in rules
    )


def _is(peer: Object, labels: Labels) -> bool:
    return "podSelector" in peer and matches(peer["podSelector"], labels)


def labels_of(objects: tuple[Object, ...], component: str) -> Labels:
    return next(p["metadata"]["labels"] for p in pods(objects) if component_of(p) == component)


STRANGER = {"app.kubernetes.io/name": "stranger"}


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.stem if f else "defaults")
def test_only_the_gateway_reaches_engines_judges_and_redis(case: Path | None) -> None:
    objects = render(case)
    everybody = {component_of(p): p["metadata"]["labels"] for p in pods(objects)}
    everybody["stranger"] = STRANGER
    routed = "router" in everybody
    allowed = {
        ("gateway", "redis"),
        ("export", "redis"),
        ("evaluation", "redis"),
        ("training", "redis"),
        ("gateway", "reward-safety"),
        ("gateway", "reward-helpfulness"),
        *({("gateway", "router"), ("router", "engine")} if routed else {("gateway", "engine")}),
        *({("engine", "engine")} if case and case.stem == "two-nodes-70b" else ()),
    }
    ports = {"redis": 6379, "engine": 8000, "router": 8000}
    ports |= {"reward-safety": 8000, "reward-helpfulness": 8000}
    for target in ports.keys() & everybody.keys():
        for source, labels in everybody.items():
            wanted = (source, target) in allowed
            assert may(objects, labels, everybody[target], ports[target]) is wanted, (
                source,
                target,
            )


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.stem if f else "defaults")
def test_every_pod_but_the_test_is_under_a_policy(case: Path | None) -> None:
    objects = render(case)
    for pod in pods(objects):
        if component_of(pod) != "test":
            assert policies(objects, pod["metadata"]["labels"]), component_of(pod)


def test_the_chat_page_and_the_test_reach_the_gateway() -> None:
    for case in (None, CHART / "ci/cluster-13b.yaml"):
        objects = render(case)
        for source in ("ui", "test"):
            assert may(objects, labels_of(objects, source), labels_of(objects, "gateway"), 8000)


def test_clients_can_be_narrowed() -> None:
    open_to_all, narrowed = render(), render(CHART / "ci/cluster-13b.yaml")
    assert may(open_to_all, STRANGER, labels_of(open_to_all, "gateway"), 8000)
    assert not may(narrowed, STRANGER, labels_of(narrowed, "gateway"), 8000)


@every_case
def test_weights_come_from_outside_of_private_networks(case: Path | None) -> None:
    for thing in render(case):
        if thing["kind"] == "NetworkPolicy":
            for rule in thing["spec"]["egress"]:
                for block in [p["ipBlock"] for p in rule.get("to", []) if "ipBlock" in p]:
                    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])


@pytest.mark.parametrize(
    ("url", "port"), [("http://a:8001", 8001), ("http://a.b/c", 80), ("https://a.b", 443)]
)
def test_the_gateway_gets_out_to_an_engine_elsewhere(url: str, port: int) -> None:
    objects = render(CHART / "ci/external-engine.yaml", f"engine.url={url}")
    gateway = labels_of(objects, "gateway")
    assert may(objects, gateway, STRANGER, port)
    assert not may(objects, gateway, STRANGER, 1)
