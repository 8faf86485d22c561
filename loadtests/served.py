"""The whole system with the bundled model, as its users start it: engine, gateway and guard."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import psutil

from loadtests.servers import free_port, progress, ready, started

MODEL = "SmolLM2-135M-SafeChat"
SERVE = f"{Path(sys.executable).with_name('safechat')} serve"
START_WITHIN_S = 480.0


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway, and the engine that it started. The engine answers at `engine` by itself."""

    gateway: str
    engine: str
    gateway_process: psutil.Process
    engine_process: psutil.Process


def _engine_of(gateway: psutil.Process) -> tuple[str, psutil.Process]:
    """URL and process of the vLLM server that a gateway started. Raises RuntimeError."""
    for child in gateway.children(recursive=True):
        words = child.cmdline()
        if "vllm.entrypoints.openai.api_server" in words and "--port" in words:
            return f"http://127.0.0.1:{words[words.index('--port') + 1]}", child
    raise RuntimeError("the gateway has started no engine")


@asynccontextmanager
async def opened(environment: Mapping[str, str] | None = None) -> AsyncIterator[Served]:
    """A gateway and its engine, both up, on all cores. environment: more settings."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with TemporaryDirectory() as folder:
        settings = {
            "SAFECHAT_SERVER__PORT": str(port),
            "SAFECHAT_JOURNAL__FOLDER": folder,
            **(environment or {}),
        }
        with started(SERVE, settings, os.sched_getaffinity(0)) as process:
            progress.log("starting the gateway and its engine")
            async with aiohttp.ClientSession() as session:
                await ready(session, f"{url}/readyz", process, START_WITHIN_S)
            engine, engine_process = _engine_of(process)
            yield Served(url, engine, process, engine_process)


def add_sides(parser: argparse.ArgumentParser) -> None:
    """The options that `sides` reads."""
    parser.add_argument("--engine", help="URL of an engine, without /v1; starts one if left out")
    parser.add_argument("--gateway", help="URL of the gateway before it, without /v1")


@asynccontextmanager
async def sides(options: argparse.Namespace) -> AsyncIterator[tuple[str, str]]:
    """URLs of engine and gateway: those that are named, or of a system started for this.

    Raises RuntimeError where only one is named.
    """
    if options.engine and options.gateway:
        yield options.engine, options.gateway
    elif options.engine or options.gateway:
        raise RuntimeError("name both --engine and --gateway, or none of them")
    else:
        async with opened() as served:
            yield served.engine, served.gateway
