"""The gateway as a process of its own, to be killed, and starved of disk."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

_START_S: Final = 60.0


class GatewayProcess:
    """A gateway with a scripted guard, a journal in `folder`, and an engine elsewhere."""

    def __init__(
        self, engine_url: str, folder: Path, *, redis_url: str | None = None, **settings: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "SAFECHAT_ENGINE__URL": engine_url,
            "SAFECHAT_JOURNAL__FOLDER": str(folder),
            "SAFECHAT_SERVER__PORT": str(port),
            **({"SAFECHAT_REDIS_URL": redis_url} if redis_url else {}),
            **{f"SAFECHAT_{name.upper()}": value for name, value in settings.items()},
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.kill()

    async def start(self) -> None:
        """Returns once it can serve a turn."""
        self._process = self._run("tests.fakes.lone_gateway")
        give_up = time.monotonic() + _START_S
        while not await self._ready():
            assert self._process.poll() is None, "the gateway ended while it was starting"
            if time.monotonic() > give_up:
                raise TimeoutError("the gateway does not start")
            await asyncio.sleep(0.05)

    def fail(self) -> tuple[int, str]:
        """`safechat serve` where it cannot start: its exit status, and its last words."""
        process = self._run("safechat", "serve")
        _, said = process.communicate(timeout=_START_S)
        return process.returncode, said.decode().strip().splitlines()[-1]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def metrics(self) -> dict[str, float]:
        """Values by name, added up over labels."""
        values = dict[str, float]()
        for family in text_string_to_metric_families((await self._get("/metrics")).text):
            for sample in family.samples:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return values

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No file that it writes may grow."""
        limits = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)

    def _run(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if not words else subprocess.PIPE,
        )

    async def _ready(self) -> bool:
        try:
            return (await self._get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.get(f"{self.url}{path}")
