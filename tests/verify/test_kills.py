"""The real engine killed and frozen under streams: each request ends in words, and is counted."""

import asyncio
import random

import httpx
import psutil
import pytest

from server.chat_model import TUNED
from server.settings import EngineSettings, Settings
from tests.fakes.gateway import RunningGateway, client_for, run_gateway
from tests.fakes.scorer import scripted_guard

pytestmark = [pytest.mark.verify, pytest.mark.timeout(1800)]
ROUNDS = 3
STREAMS = 16


async def test_an_engine_killed_at_random_moments_loses_no_request() -> None:
    settings = Settings(engine=EngineSettings(chunk_timeout_s=10, first_chunk_timeout_s=20))
    chance = random.Random(11)
    async with (
        run_gateway(settings, guard=scripted_guard()) as gateway,
        client_for(gateway, limits=httpx.Limits(max_connections=64)) as client,
    ):
        client.timeout = httpx.Timeout(60)
        ends: list[str] = []
        for _ in range(ROUNDS):
            await _until_ready(client)
            streams = [asyncio.create_task(_stream(client)) for _ in range(STREAMS)]
            await asyncio.sleep(chance.uniform(0.3, 3))
            _engine_core().kill()
            ends += await asyncio.gather(*streams)
            await _until_down(client)
        assert set(ends) <= {"[DONE]", "engine_error", "engine_timeout", "engine_unavailable"}
        assert any(end != "[DONE]" for end in ends)
        outcomes = gateway.outcomes()
        assert set(outcomes) <= {"completed", "engine_failed"}
        assert sum(outcomes.values()) == STREAMS * ROUNDS
        assert outcomes.get("completed", 0) == ends.count("[DONE]")
        assert gateway.parts.limits.in_flight == 0
        async with asyncio.timeout(60):
            while _restarts(gateway) < ROUNDS:
                await asyncio.sleep(0.2)


async def test_an_engine_that_freezes_is_given_up_and_taken_back() -> None:
    settings = Settings(engine=EngineSettings(chunk_timeout_s=10, first_chunk_timeout_s=20))
    chance = random.Random(12)
    async with (
        run_gateway(settings, guard=scripted_guard()) as gateway,
        client_for(gateway, limits=httpx.Limits(max_connections=64)) as client,
    ):
        client.timeout = httpx.Timeout(60)
        await _until_ready(client)
        streams = [asyncio.create_task(_stream(client)) for _ in range(STREAMS)]
        await asyncio.sleep(chance.uniform(0.3, 2))
        core = _engine_core()
        core.suspend()
        ends = await asyncio.gather(*streams)
        core.resume()
        assert set(ends) <= {"[DONE]", "engine_timeout"}
        after = await asyncio.gather(*(_stream(client) for _ in range(STREAMS)))
        assert set(after) == {"[DONE]"}
        failed = ends.count("engine_timeout")
        done = {"completed": 2 * STREAMS - failed}
        assert gateway.outcomes() == (done | {"engine_failed": failed} if failed else done)
        assert gateway.parts.limits.in_flight == 0


async def _until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(300):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.5)


async def _until_down(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while (await client.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.1)


async def _stream(client: httpx.AsyncClient) -> str:
    body = {
        "model": TUNED.name,
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "stream": True,
        "max_tokens": 60,
    }
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            error = await response.aread()
            return str(httpx.Response(response.status_code, content=error).json()["error"]["type"])
        text = (await response.aread()).decode()
    assert text.endswith("data: [DONE]\n\n")
    for kind in ("engine_error", "engine_timeout"):
        if f'"type":"{kind}"' in text:
            return kind
    assert '"finish_reason":"' in text
    return "[DONE]"


def _engine_core() -> psutil.Process:
    """vLLM's engine core: no handler of the API server can prevent what is done to it."""
    [core] = [p for p in psutil.Process().children(recursive=True) if "EngineCor" in p.name()]
    return core


def _restarts(gateway: RunningGateway) -> int:
    return int(gateway.sample("safechat_engine_restarts"))
