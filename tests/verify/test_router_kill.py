"""A real vLLM killed behind the real vllm-router, a scripted engine left to take over."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from server.chat_model import BASE, prepare_bundled_model
from server.engine_command import EngineCommand
from server.engine_process import EngineProcess
from server.settings import EngineSettings
from tests.fakes.chat import STORY, ask, stream
from tests.fakes.gateway import client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.router import run_router

pytestmark = [pytest.mark.verify, pytest.mark.timeout(900)]
STREAMS = 16
SETTINGS = quick_settings(
    engine=EngineSettings(health_path="/readiness", first_chunk_timeout_s=60, chunk_timeout_s=60)
)


async def test_a_killed_vllm_fails_no_request_that_had_shown_nothing(tmp_path: Path) -> None:
    folder = await prepare_bundled_model(BASE)
    command = EngineCommand(str(folder), BASE.name, max_model_len=2048)
    async with (
        EngineProcess(command, tmp_path / "vllm.log") as dying,
        ScriptedEngine(Script.words(STORY), model=BASE.name) as other,
    ):
        await dying.ready()
        async with (
            run_router(dying.url, other.url) as router,
            run_gateway(SETTINGS, engine_url=router.url, guard=scripted_guard()) as gateway,
            client_for(gateway, limits=httpx.Limits(max_connections=4 * STREAMS)) as client,
        ):
            client.timeout = httpx.Timeout(120)
            texts = await _texts_that_reach_vllm(client, other)
            begun = [asyncio.Event() for _ in texts]
            streams = [
                asyncio.create_task(stream(client, _long(text), begin))
                for text, begin in zip(texts, begun, strict=True)
            ]
            await asyncio.wait(
                [asyncio.create_task(begin.wait()) for begin in begun],
                return_when=asyncio.FIRST_COMPLETED,
            )
            _core().kill()
            replies = await asyncio.gather(*streams)
            broken = [events for events in replies if "error" in events[-1]]
            for events in broken:
                assert events[-1]["error"]["type"] == "engine_error"
                assert any(c["delta"].get("content") for e in events[:-1] for c in e["choices"])
            assert broken
            failed = gateway.outcomes()["engine_failed"]
            assert failed == len(broken) < STREAMS


def _long(text: str) -> dict[str, Any]:
    return ask(text, model=BASE.name, max_tokens=200, temperature=0)


async def _texts_that_reach_vllm(client: httpx.AsyncClient, other: ScriptedEngine) -> list[str]:
    texts: list[str] = []
    number = 0
    while len(texts) < STREAMS:
        before, number = len(other.bodies), number + 1
        text = f"Tell me about the number {number}."
        body = {**_long(text), "max_tokens": 1}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        if len(other.bodies) == before:
            texts.append(text)
    return texts


def _core() -> psutil.Process:
    """vLLM's engine core, which no handler of its API server can save."""
    children = psutil.Process().children(recursive=True)
    [core] = [child for child in children if "EngineCor" in child.name()]
    return core
