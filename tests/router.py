"""The real vllm-router, as a process of its own before engines of the test's choice."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import yaml

from server.engine_process import free_port

_VALUES: Final = Path(__file__).parents[1] / "helm/safechat/values.yaml"
_START_S: Final = 30.0


@dataclass
class Router:
    """Where it listens, and its process."""

    url: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def run_router(*workers: str) -> AsyncIterator[Router]:
    """Once it has found all workers healthy. Its options are the chart's."""
    port = free_port()
    options = {
        **_of_the_chart(),
        "host": "127.0.0.1",
        "port": port,
        "prometheus-port": free_port(),
        "log-level": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [str(Path(sys.executable).with_name("vllm-router")), *words]
    process = await asyncio.create_subprocess_exec(
        *command, "--worker-urls", *workers, stdout=asyncio.subprocess.DEVNULL
    )
    url, give_up = f"http://127.0.0.1:{port}", time.monotonic() + _START_S
    try:
        while await healthy_workers(url) < len(workers):
            assert process.returncode is None, "vllm-router ended at its start"
            assert time.monotonic() < give_up, "vllm-router does not find its workers"
            await asyncio.sleep(0.05)
        yield Router(url, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _of_the_chart() -> dict[str, str | int]:
    options: dict[str, str | int] = yaml.safe_load(_VALUES.read_text())["router"]["options"]
    return options


async def healthy_workers(url: str) -> int:
    """How many the router would send a request to; 0 while it does not listen."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return int((await client.get(f"{url}/readiness")).json()["healthy_workers"])
        except httpx.TransportError:
            return 0
