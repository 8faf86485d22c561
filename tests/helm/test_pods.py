"""What every pod of the chart keeps to: no rights, no secrets in values, probes, a long drain."""

import re
from pathlib import Path

import pytest

from tests.helm.chart import (
    CHART,
    Object,
    component_of,
    containers,
    every_case,
    one,
    pod,
    pods,
    render,
)

TWO_NODES = CHART / "ci/two-nodes-70b.yaml"
CLUSTER = CHART / "ci/cluster-13b.yaml"


@every_case
def test_pods_run_without_rights(case: Path | None) -> None:
    for template in pods(render(case)):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@every_case
def test_images_are_pinned_and_memory_is_bounded(case: Path | None) -> None:
    for container in containers(render(case)):
        assert re.search(r":\d[\w.-]*$", container["image"])
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]


@every_case
def test_secrets_come_by_reference_alone(case: Path | None) -> None:
    objects = render(case)
    assert "Secret" not in {o["kind"] for o in objects}
    for container in containers(objects):
        for entry in container.get("env", []):
            if re.search(r"KEY|TOKEN|PASSWORD|SECRET|AUTH", entry["name"]):
                assert entry["valueFrom"]["secretKeyRef"].keys() == {"name", "key"}


def test_an_external_redis_is_known_by_its_secret_alone() -> None:
    gateway = pod(render(TWO_NODES), "gateway")["containers"][0]
    [url] = [e for e in gateway["env"] if e["name"] == "SAFECHAT_REDIS_URL"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "redis-url", "key": "url"}


def test_the_password_of_the_bundled_redis_is_asked_for_and_given() -> None:
    objects = render(CLUSTER)
    env = {e["name"]: e for e in pod(objects, "gateway")["containers"][0]["env"]}
    assert (
        env["SAFECHAT_REDIS_URL"]["value"]
        == "redis://:$(REDIS_PASSWORD)@chat-safechat-redis:6379/0"
    )
    names = list(env)  # Kubernetes puts in only what was named before
    assert names.index("REDIS_PASSWORD") < names.index("SAFECHAT_REDIS_URL")
    server = pod(objects, "redis")["containers"][0]
    assert server["args"][-2:] == ["--requirepass", "$(REDISCLI_AUTH)"]
    assert server["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "redis-password"


def test_the_hub_token_reaches_engines_and_no_one_else() -> None:
    with_token = {
        component_of(p)
        for p in pods(render(CLUSTER))
        for c in p["spec"]["containers"]
        if "HF_TOKEN" in {e["name"] for e in c.get("env", [])}
    }
    assert with_token == {"engine"}


@every_case
def test_whatever_serves_is_probed(case: Path | None) -> None:
    objects = render(case)
    for thing in objects:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            [container] = thing["spec"]["template"]["spec"]["containers"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_an_engine_may_load_for_an_hour() -> None:
    for case, component in ((None, "engine"), (TWO_NODES, "reward-safety")):
        probe = pod(render(case), component)["containers"][0]["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] >= 3600


def test_a_gateway_waits_for_an_engine_once_and_then_stays_without_one() -> None:
    gateway = pod(render(), "gateway")["containers"][0]
    startup = gateway["startupProbe"]
    assert startup["httpGet"]["path"] == "/readyz"
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 3600
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"
    router = pod(render(CLUSTER), "router")["containers"][0]
    assert router["livenessProbe"]["httpGet"]["path"] == "/liveness"


@pytest.mark.parametrize("component", ["gateway", "router"])
def test_a_pod_outlives_the_longest_stream_that_it_may_have(component: str) -> None:
    drain = ("gateway.drain.preStopSeconds=20", "gateway.drain.longestStreamSeconds=900")
    objects = render(CLUSTER, *drain)
    spec = pod(objects, component)
    [pre_stop] = [c["lifecycle"]["preStop"]["exec"]["command"] for c in spec["containers"]]
    assert pre_stop == ["sleep", "20"]
    assert spec["terminationGracePeriodSeconds"] > 20 + 900
    settings = one(objects, "ConfigMap", "gateway")["data"]["safechat.toml"]
    assert re.search(r"^\s*drain_s = 900(\.0)?$", settings, re.M)


def test_an_update_of_the_gateway_never_takes_one_away_before_the_next_is_ready() -> None:
    strategy = one(render(), "Deployment", "gateway")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_gateways_without_redis_never_share_a_journal() -> None:
    objects = render(CHART / "ci/one-gateway.yaml")
    assert one(objects, "Deployment", "gateway")["spec"]["strategy"] == {"type": "Recreate"}
    claim = one(objects, "PersistentVolumeClaim", "journal")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_gpus_follow_the_split_of_the_model() -> None:
    for preset, gpus in (("7b", 1), ("13b", 2), ("70b", 4)):
        assert _gpus(pod(render(None, f"preset={preset}"), "engine")) == gpus
    leader, worker = [p["spec"] for p in pods(render(TWO_NODES)) if component_of(p) == "engine"]
    assert _gpus(leader) == _gpus(worker) == 4
    assert "--headless" in worker["containers"][0]["args"]
    assert "--headless" not in leader["containers"][0]["args"]


def _gpus(spec: Object) -> int:
    limits: dict[str, int] = spec["containers"][0]["resources"]["limits"]
    return limits["nvidia.com/gpu"]


def test_what_is_set_wins_over_the_preset() -> None:
    args = pod(render(None, "preset=70b", "engine.maxModelLen=2048"), "engine")["containers"][0][
        "args"
    ]
    assert "--max-model-len=2048" in args
    assert "--tensor-parallel-size=4" in args


def test_the_router_knows_every_engine_by_name() -> None:
    args = pod(render(CLUSTER), "router")["containers"][0]["args"]
    after = args[args.index("--worker-urls") + 1 :]
    assert after == [
        f"http://chat-safechat-engine-{i}.chat-safechat-engine-pods:8000" for i in (0, 1)
    ]
    service = one(render(CLUSTER), "StatefulSet", "engine")["spec"]["serviceName"]
    assert service == "chat-safechat-engine-pods"
    args = pod(render(TWO_NODES), "router")["containers"][0]["args"]
    [sets] = [o for o in render(TWO_NODES) if o["kind"] == "LeaderWorkerSet"]
    name = sets["metadata"]["name"]
    assert args[-2:] == [f"http://{name}-{i}.{name}:8000" for i in (0, 1)]
