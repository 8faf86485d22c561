"""A gateway before an engine that costs nothing, each on cores of its own choice."""

import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import psutil

from loadtests.servers import free_port, ready, started

GATEWAY_COMMAND = f"{Path(sys.executable).with_name('safechat')} serve"
START_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Fronted:
    """URLs without /v1, and processes."""

    engine: str
    engine_process: psutil.Process
    gateway: str
    gateway_process: psutil.Process


def gateway_environment(port: int, engine: str, folder: str) -> dict[str, str]:
    """Settings of a gateway that judges by a constant. folder: of its journal."""
    return {
        "SAFECHAT_SERVER__PORT": str(port),
        "SAFECHAT_ENGINE__URL": engine,
        "SAFECHAT_GUARD__SCORER": "constant",
        "SAFECHAT_JOURNAL__FOLDER": folder,
    }


@asynccontextmanager
async def fronted(
    session: aiohttp.ClientSession,
    engine_options: str,
    *,
    engine_cores: Iterable[int],
    gateway_cores: Iterable[int],
    settings: Mapping[str, str] | None = None,
    command: str = GATEWAY_COMMAND,
) -> AsyncIterator[Fronted]:
    """Both of them, up.

    settings: of the gateway, in place of and beside what it has otherwise. command: starts it;
    `{port}` and `{engine}` are filled in.
    """
    engine_port, port = free_port(), free_port()
    engine, gateway = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
    engine_command = f"{sys.executable} -m loadtests.free_engine --port {engine_port}"
    with (
        TemporaryDirectory() as folder,
        started(f"{engine_command} {engine_options}", {}, engine_cores) as engine_process,
        started(
            command.format(port=port, engine=engine),
            {**gateway_environment(port, engine, folder), **(settings or {})},
            gateway_cores,
        ) as gateway_process,
    ):
        await ready(session, f"{engine}/health", engine_process)
        await ready(session, f"{gateway}/readyz", gateway_process, START_WITHIN_S)
        yield Fronted(engine, engine_process, gateway, gateway_process)
