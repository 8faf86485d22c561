"""The chart as the real Helm renders it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "helm/safechat"
CI: Final = (None, *sorted((CHART / "ci").glob("*.yaml")))
"""Value files; None: the chart's own defaults."""

Object = dict[str, Any]
every_case = pytest.mark.parametrize("case", CI, ids=lambda f: f.stem if f else "defaults")


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    binary = ROOT / ".cache/bin/helm"
    if not binary.exists():
        pytest.skip("no Helm: `make .cache/bin/helm` fetches it")
    return subprocess.run([binary, *words], capture_output=True, text=True, check=False)


@cache
def render(case: Path | None = None, *settings: str) -> tuple[Object, ...]:
    """All objects under a value file and `--set` settings."""
    done = helm(*_words(case, settings))
    assert done.returncode == 0, done.stderr
    return tuple(o for o in yaml.safe_load_all(done.stdout) if o)


def refusal(*settings: str, case: Path | None = None) -> str:
    """What Helm says to values that it must not render."""
    done = helm(*_words(case, settings))
    assert done.returncode != 0, "it was rendered"
    return done.stderr


def _words(case: Path | None, settings: tuple[str, ...]) -> list[str]:
    files = ["-f", str(case)] if case else []
    return ["template", "chat", str(CHART), *files, *(w for s in settings for w in ("--set", s))]


def one(objects: tuple[Object, ...], kind: str, component: str) -> Object:
    """The only object of that kind and component."""
    [found] = [o for o in objects if o["kind"] == kind and component_of(o) == component]
    return found


def component_of(thing: Object) -> str:
    return str(thing["metadata"]["labels"]["app.kubernetes.io/component"])


def pods(objects: tuple[Object, ...]) -> list[Object]:
    """Pods and pod templates: metadata and spec each."""
    found: list[Object] = []
    for thing in objects:
        spec = thing.get("spec", {})
        match thing["kind"]:
            case "Pod":
                found.append(thing)
            case "Deployment" | "StatefulSet" | "Job":
                found.append(spec["template"])
            case "CronJob":
                found.append(spec["jobTemplate"]["spec"]["template"])
            case "LeaderWorkerSet":
                sets = spec["leaderWorkerTemplate"]
                found += [sets["leaderTemplate"], sets["workerTemplate"]]
    return found


def pod(objects: tuple[Object, ...], component: str) -> Object:
    """The spec of that component's only pod template."""
    [found] = [p for p in pods(objects) if component_of(p) == component]
    spec: Object = found["spec"]
    return spec


def containers(objects: tuple[Object, ...]) -> list[Object]:
    return [c for p in pods(objects) for c in p["spec"]["containers"]]
