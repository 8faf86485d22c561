"""A real Prometheus for tests, on a port and in a folder of its own."""

import json
import math
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Self

import httpx
import pytest
import yaml

from server.engine_process import free_port

RULES: Final = Path(__file__).parents[1] / "helm/safechat/files/rules.yaml"
NEED_TWO_WEEKS: Final = {
    "job:safechat_guard_score_bucket:avg1w_offset1w",
    "job:safechat_guard_score:drift",
}
_START_S: Final = 30.0


def shipped_groups() -> list[dict[str, Any]]:
    """The groups of the shipped rules."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return groups


class PrometheusServer:
    """Scrapes a gateway every second as the job `chat`, and evaluates the shipped rules as often.

    target: the gateway's host and port; None: it only answers queries.
    """

    def __init__(self, folder: Path, target: str | None = None) -> None:
        if shutil.which("prometheus") is None:
            pytest.skip("prometheus is not installed")
        self._folder = folder
        self._address = f"127.0.0.1:{free_port()}"
        self._http = httpx.Client(base_url=f"http://{self._address}", trust_env=False, timeout=10)
        scraped = {"job_name": "chat", "static_configs": [{"targets": [target]}]}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [scraped] if target else [],
        }
        folder.mkdir(parents=True, exist_ok=True)
        groups = [{**group, "interval": "1s"} for group in shipped_groups()]
        files = {"prometheus.yml": config, "rules.yaml": {"groups": groups}}
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))  # JSON is YAML too

    def __enter__(self) -> Self:
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": self._address,
            "log.level": "warn",
        }
        self._process = subprocess.Popen(
            ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        )
        deadline = time.monotonic() + _START_S
        while not self._ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.__exit__()
                raise TimeoutError("prometheus does not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._http.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression. Raises ValueError with Prometheus' reason."""
        answer = self._http.post("/api/v1/query", data={"query": expression}).json()
        if answer["status"] != "success":
            raise ValueError(f"{expression}: {answer['error']}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def without_numbers(self) -> set[str]:
        """The recording rules that have no finite value yet, but for those that need weeks."""
        rules = (rule for group in shipped_groups() for rule in group["rules"])
        recorded = {rule["record"] for rule in rules if "record" in rule} - NEED_TWO_WEEKS
        return {name for name in recorded if not any(map(_finite, self.query(name)))}

    def _ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


def _finite(sample: dict[str, Any]) -> bool:
    return math.isfinite(float(sample["value"][1]))
