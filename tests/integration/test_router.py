"""Two engines behind the real vllm-router, one of them killed under streams."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from server.settings import EngineSettings
from tests.conftest import ServedEngine
from tests.fakes.chat import STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import Body
from tests.router import Router, healthy_workers, run_router

STREAMS = 16
LONG = "word " * 500
"""So many bytes that the gateway asks the engine how many tokens they are."""


QUICK, SHOWN, ACCEPTED, WAITING = range(4)
"""How far a reply is when its engine is killed, asked for by the request's seed."""

SCRIPTS = {
    QUICK: Script.words(STORY),
    SHOWN: Script.words(STORY, delay=0.04),
    ACCEPTED: Script.words(STORY, first_delay=4.0),
    WAITING: Script.words(STORY, open_delay=4.0),
}


def by_seed(body: Body) -> Script:
    return SCRIPTS[body["seed"]]


@dataclass
class House:
    """A gateway before a router before two engines."""

    gateway: RunningGateway
    client: httpx.AsyncClient
    engines: list[ScriptedEngine]
    router: Router

    async def texts_for(self, engine: ScriptedEngine, count: int) -> list[str]:
        """Openings that the router sends to this engine."""
        texts: list[str] = []
        number = 0
        while len(texts) < count:
            before, number = len(engine.bodies), number + 1
            await self.client.post("/v1/chat/completions", json=ask(f"{number}?", seed=QUICK))
            if len(engine.bodies) > before:
                texts.append(f"{number}?")
        return texts


@asynccontextmanager
async def house(*others: ServedEngine) -> AsyncIterator[House]:
    name = others[0].model if others else "scripted"
    engines = [ScriptedEngine(by_seed, model=name) for _ in range(2 - len(others))]
    for engine in engines:
        await engine.start()
    settings = quick_settings(
        engine=EngineSettings(
            health_path="/readiness", first_chunk_timeout_s=60, chunk_timeout_s=60
        )
    )
    async with (
        run_router(*(e.url for e in engines), *(other.url for other in others)) as router,
        run_gateway(settings, engine_url=router.url, guard=scripted_guard()) as gateway,
        client_for(gateway, limits=httpx.Limits(max_connections=64)) as client,
    ):
        client.timeout = httpx.Timeout(120)
        yield House(gateway, client, engines, router)
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def running() -> AsyncIterator[House]:
    async with house() as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def reply(
    client: httpx.AsyncClient, text: str, seed: int, began: asyncio.Event | None = None
) -> str:
    """`whole` or `broken off`: anything else fails. A broken reply has shown some text before."""
    events = await stream(client, ask(text, seed=seed), began)
    if "error" not in events[-1]:
        told, reason, _ = folded(events)
        assert (told, reason) == (STORY, "stop")
        return "whole"
    assert events[-1]["error"]["type"] == "engine_error"
    shown = "".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"])
    assert shown
    assert STORY.startswith(shown)
    return "broken off"


async def test_a_killed_engine_fails_no_request_that_had_shown_nothing(running: House) -> None:
    dying, other = running.engines
    texts = [await running.texts_for(engine, STREAMS // 2) for engine in (dying, other)]
    before = running.gateway.outcomes()["completed"]
    kinds = [(SHOWN, ACCEPTED, WAITING)[i % 3] for i in range(STREAMS // 2)]
    begun = [asyncio.Event() for _ in range(STREAMS)]
    streams = [
        asyncio.create_task(reply(running.client, text, kind, begin))
        for text, kind, begin in zip([*texts[0], *texts[1]], kinds * 2, begun, strict=True)
    ]
    await until(lambda: dying.running == other.running == STREAMS // 2)
    await until(lambda: [b.is_set() for b in begun] == [kind == SHOWN for kind in kinds * 2])
    await dying.stop()
    other.script = SCRIPTS[QUICK]
    ends = await asyncio.gather(*streams)
    of_dying = ["broken off" if kind == SHOWN else "whole" for kind in kinds]
    assert ends == [*of_dying, *["whole"] * (STREAMS // 2)]
    broken = kinds.count(SHOWN)
    completed = before + STREAMS - broken
    assert running.gateway.outcomes() == {"completed": completed, "engine_failed": broken}
    retried = running.gateway.sample("safechat_engine_retries_total")
    assert retried == kinds.count(ACCEPTED)  # who waited for headers, the router asked again
    assert running.gateway.parts.limits.in_flight == 0


async def test_a_reply_that_is_not_streamed_begins_anew_even_when_half_generated(
    running: House,
) -> None:
    body = ask(seed=SHOWN)
    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=body))
    await until(lambda: any(engine.running for engine in running.engines))
    await asyncio.sleep(0.5)
    for engine in running.engines:
        if engine.running:
            await engine.stop()
        else:
            engine.script = SCRIPTS[QUICK]
    answer = (await asking).json()
    assert answer["choices"][0]["message"]["content"] == STORY
    assert answer["usage"]["completion_tokens"] == len(Script.words(STORY).deltas[0])


@pytest.mark.parametrize("dying", [0, 1])
async def test_long_conversations_are_counted_though_an_engine_has_just_died(
    running: House, dying: int
) -> None:
    await running.engines[dying].stop()
    bodies = [ask(f"{i}? {LONG}", seed=QUICK) for i in range(STREAMS)]
    posts = [running.client.post("/v1/chat/completions", json=body) for body in bodies]
    assert [answer.status_code for answer in await asyncio.gather(*posts)] == [200] * STREAMS


async def test_one_engine_is_enough_to_be_ready(running: House) -> None:
    await running.engines[1].stop()
    async with asyncio.timeout(20):
        while await healthy_workers(running.router.url) > 1:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # the gateway asks once a second
    assert (await running.client.get("/readyz")).status_code == 200
    replies = [reply(running.client, f"{i}?", QUICK) for i in range(8)]
    assert set(await asyncio.gather(*replies)) == {"whole"}


async def test_a_router_that_is_told_to_go_ends_its_streams(running: House) -> None:
    began = asyncio.Event()
    streams = [
        asyncio.create_task(reply(running.client, "1?", seed, began)) for seed in (SHOWN, ACCEPTED)
    ]
    await began.wait()
    await until(lambda: sum(engine.running for engine in running.engines) == 2)
    running.router.process.terminate()
    assert await asyncio.gather(*streams) == ["whole", "whole"]
    assert await running.router.process.wait() == 0


async def test_turns_of_a_conversation_stay_with_one_engine(running: House) -> None:
    first: dict[str, Any] = ask("1?", seed=QUICK)
    second = {"role": "user", "content": "and then?"}
    longer = {**first, "messages": [*first["messages"], {"role": "assistant", "content": "a"}]}
    longer["messages"].append(second)
    for body in (first, longer, first, longer):
        await running.client.post("/v1/chat/completions", json=body)
    assert sorted(len(engine.bodies) for engine in running.engines) == [0, 4]
    others = [ask(f"{i}?", seed=QUICK) for i in range(2, 14)]
    posts = [running.client.post("/v1/chat/completions", json=body) for body in others]
    await asyncio.gather(*posts)
    assert all(engine.bodies for engine in running.engines)


async def test_the_real_engine_takes_over_from_one_that_is_killed(
    small_engine: ServedEngine,
) -> None:
    async with house(small_engine) as running:
        bodies = [
            ask(f"{i}?", model=small_engine.model, seed=ACCEPTED, max_tokens=8, stream=True)
            for i in range(STREAMS)
        ]
        posts = [running.client.post("/v1/chat/completions", json=body) for body in bodies]
        replies = asyncio.gather(*posts)
        await until(lambda: bool(running.engines[0].running))
        await asyncio.sleep(0.5)
        await running.engines[0].stop()
        for answer in await replies:
            assert answer.status_code == 200
            assert '"finish_reason":"' in answer.text
            assert '"error"' not in answer.text
        assert running.gateway.outcomes() == {"completed": STREAMS}
