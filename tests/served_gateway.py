"""A gateway as a deployment starts it: `safechat serve`, a process of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Served:
    """Where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@asynccontextmanager
async def gateway_before(
    engine_url: str, folder: Path, *, drain_s: int, scorer: str = "constant"
) -> AsyncIterator[Served]:
    """Ready to serve; killed at the end.

    folder: of its journal and its log. scorer: a setting; `constant` allows everything.
    """
    environment = os.environ | {
        "SAFECHAT_ENGINE__URL": engine_url,
        "SAFECHAT_GUARD__SCORER": scorer,
        "SAFECHAT_JOURNAL__FOLDER": str(folder),
        "SAFECHAT_SERVER__DRAIN_S": str(drain_s),
        "SAFECHAT_SERVER__PORT": "0",
    }
    command = [sys.executable, "-m", "safechat", "serve"]
    log = folder / "gateway.log"
    process = await asyncio.to_thread(_start, command, environment, log)
    try:
        yield Served(await _address(process, log), process)
    finally:
        process.kill()
        process.wait()


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


async def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it says that it listens, once it is ready."""
    while "ready: " not in (said := await asyncio.to_thread(log.read_text)):
        assert process.poll() is None, said
        await asyncio.sleep(0.05)
    return said.partition("API ")[2].split("/v1")[0]
