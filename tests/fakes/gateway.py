"""A real gateway on a real port: uvicorn, our application, whatever engine and guard."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from flywheel.journal import Journal
from guard.guard import Guard
from server.app import create_app
from server.engine import VllmEngine
from server.gateway import Gateway
from server.settings import EngineSettings, JournalSettings, Settings
from server.tracing import Tracing


@dataclass(frozen=True)
class RunningGateway:
    """Where it listens, and its insides for assertions."""

    url: str
    app: FastAPI

    @property
    def parts(self) -> Gateway:
        gateway: Gateway = self.app.state.gateway
        return gateway

    def sample(self, name: str, **labels: str) -> float:
        """The value of one metric; 0.0 when it has no such sample yet."""
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self) -> dict[str, int]:
        """Requests by outcome, those that occurred."""
        families = {m.name: m for m in self.parts.metrics.registry.collect()}
        samples = families["safechat_requests"].samples
        return {
            s.labels["outcome"]: int(s.value)
            for s in samples
            if s.name.endswith("_total") and s.value
        }


@asynccontextmanager
async def run_gateway(
    settings: Settings,
    *,
    engine_url: str | None = None,
    guard: Guard | None = None,
    journal: Journal | None = None,
    tracing: Tracing | None = None,
    drain_s: int | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[RunningGateway]:
    """Serve until the block ends.

    engine_url: an engine that runs already. send_buffer: bytes that the system takes for a
    client that does not read.
    """
    engine_settings = settings.engine
    engine = VllmEngine(engine_url, engine_settings) if engine_url else None
    app = create_app(settings, engine=engine, guard=guard, journal=journal, tracing=tracing)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=drain_s,
    )
    server = uvicorn.Server(config)
    if engine is not None:
        await engine.__aenter__()
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if serving.done():
                serving.result()
                raise RuntimeError("the gateway did not start")
            await asyncio.sleep(0.01)
        listener = server.servers[0].sockets[0]
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        port = listener.getsockname()[1]
        yield RunningGateway(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        await serving
        if engine is not None:
            await engine.__aexit__(None, None, None)


def quick_settings(**sections: object) -> Settings:
    """Settings for tests, with short patience and, unless told otherwise, no memory."""
    sections.setdefault("journal", JournalSettings(enabled=False))
    sections.setdefault(
        "engine",
        EngineSettings(connect_timeout_s=1, first_chunk_timeout_s=2, chunk_timeout_s=1),
    )
    return Settings(**sections)  # type: ignore[arg-type]


def client_for(gateway: RunningGateway, **how: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False, **how)  # type: ignore[arg-type]
