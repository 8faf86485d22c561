"""The whole product as its user starts it: `safechat up`, as a process of its own.

It starts its own engine, unless `SAFECHAT_TEST_ENGINE_URL` names one that runs already.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

_READY_S = 400


@dataclass
class Up:
    """A running `safechat up`, everything it has printed, and the processes it started."""

    url: str
    process: psutil.Process
    log: Path

    def ready(self) -> httpx.Response:
        return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=10)

    def wait_until(self, condition: Callable[[], bool], seconds: float = _READY_S) -> None:
        """Poll; fails with the log when the condition never holds."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, self.log.read_text()[-3000:]
            assert self.process.is_running(), self.log.read_text()[-3000:]
            time.sleep(0.2)

    def is_up(self) -> bool:
        try:
            return self.ready().status_code == 200
        except httpx.TransportError:
            return False

    @property
    def starts_its_engine(self) -> bool:
        return "--engine-url" not in self.process.cmdline()

    def engine(self) -> psutil.Process:
        """The API server of vLLM."""
        children = self.process.children()
        return next(c for c in children if "vllm.entrypoints" in " ".join(c.cmdline()))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("up")
    log = folder / "up.log"
    environment = {**os.environ, "SAFECHAT_JOURNAL__FOLDER": str(folder / "journal")}
    command = [str(Path(sys.executable).with_name("safechat")), "up", "--port", str(port)]
    if engine_url := os.environ.get("SAFECHAT_TEST_ENGINE_URL"):
        command += ["--engine-url", engine_url]
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    running = Up(f"http://127.0.0.1:{port}", psutil.Process(child.pid), log)
    try:
        yield running
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        child.wait(30)
