"""Engines that fail, clients that leave, too much at once: typed ends, and all is counted."""

import asyncio
from typing import Any

import httpx
import pytest

from guard.types import GuardTimeout
from server.settings import LimitSettings
from tests.fakes.chat import BAD_STORY, STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedScorer, scripted_guard
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import GARBAGE, error_event


@pytest.mark.parametrize(
    ("script", "status", "kind"),
    [
        (Script(status=400, error="temperature is odd"), 400, "invalid_request_error"),
        (Script(status=404), 400, "invalid_request_error"),
        (Script(status=500), 502, "engine_error"),
        (Script(status=503), 503, "engine_unavailable"),
        (Script(status=401), 502, "engine_error"),
        (Script(status=500, error=b"<html>"), 502, "engine_error"),
        (Script(deltas=((),), tail=error_event("bad grammar", 400)), 400, "invalid_request_error"),
        (Script(deltas=((),), tail=error_event()), 502, "engine_error"),
        (Script(deltas=((),), tail=GARBAGE), 502, "engine_error"),
        (Script(deltas=((),), ending=Ending.CUT), 502, "engine_error"),
        (Script(deltas=((),), ending=Ending.RESET), 502, "engine_error"),
        (Script(deltas=((),), ending=Ending.STALL), 504, "engine_timeout"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_engine_that_fails_before_any_text_is_a_plain_status(
    engine: ScriptedEngine,
    gateway: RunningGateway,
    client: httpx.AsyncClient,
    script: Script,
    status: int,
    kind: str,
    streamed: bool,
) -> None:
    engine.script = script
    response = await client.post("/v1/chat/completions", json=ask(stream=streamed))
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert gateway.outcomes() == {"rejected" if status == 400 else "engine_failed": 1}
    assert gateway.parts.limits.in_flight == 0


@pytest.mark.parametrize(
    "how",
    [
        {"tail": error_event()},
        {"tail": GARBAGE},
        {"ending": Ending.CUT},
        {"ending": Ending.RESET},
        {"ending": Ending.STALL},
    ],
)
async def test_an_engine_that_fails_after_some_text_ends_in_a_typed_event(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient, how: dict[str, Any]
) -> None:
    engine.script = Script.words(STORY, **how)
    events = await stream(client, ask())
    assert events[-1]["error"]["type"] in ("engine_error", "engine_timeout")
    assert gateway.outcomes() == {"engine_failed": 1}
    assert len(engine.bodies) == 1
    unstreamed = await client.post("/v1/chat/completions", json=ask())
    assert unstreamed.status_code in (502, 504)


@pytest.mark.parametrize(
    "script",
    [
        Script(status=500),
        Script(status=503),
        Script(deltas=((),), tail=error_event()),
        Script(deltas=((),), ending=Ending.RESET),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_engine_that_fails_before_anything_was_shown_is_asked_once_more(
    engine: ScriptedEngine,
    gateway: RunningGateway,
    client: httpx.AsyncClient,
    script: Script,
    streamed: bool,
) -> None:
    engine.enqueue(script)
    response = await client.post("/v1/chat/completions", json=ask(stream=streamed))
    assert response.status_code == 200
    assert gateway.outcomes() == {"completed": 1}
    assert gateway.sample("safechat_engine_retries_total") == 1
    assert len(engine.bodies) == 2
    assert engine.bodies[0] == engine.bodies[1]


async def test_a_reply_that_nobody_saw_begins_anew_and_its_first_half_is_not_charged(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script.words(STORY, ending=Ending.RESET))
    answer = (await client.post("/v1/chat/completions", json=ask())).json()
    assert answer["choices"][0]["message"]["content"] == STORY
    assert answer["usage"]["completion_tokens"] == len(Script.words(STORY).deltas[0])


async def test_an_engine_that_is_silent_is_not_asked_twice(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    engine.script = Script(deltas=((),), ending=Ending.STALL)
    assert (await client.post("/v1/chat/completions", json=ask())).status_code == 504
    assert len(engine.bodies) == 1


async def test_a_lost_done_marker_does_not_take_back_a_finished_reply(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words(STORY, ending=Ending.NO_DONE)
    text, reason, _ = folded(await stream(client, ask()))
    assert (text, reason) == (STORY, "stop")


async def test_an_engine_that_is_away_is_a_503(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    await engine.stop()
    response = await client.post("/v1/chat/completions", json=ask())
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "engine_unavailable"
    assert response.headers["retry-after"]


async def test_readiness_follows_the_engine(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    await engine.stop()
    await _until(client, 503)
    assert (await client.get("/healthz")).status_code == 200
    await engine.start()
    await _until(client, 200)


async def _until(client: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(5):
        while (await client.get("/readyz")).status_code != status:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_frees_engine_and_permit(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient, streamed: bool
) -> None:
    engine.script = Script.words(STORY * 20, delay=0.01)
    if streamed:
        async with client.stream("POST", "/v1/chat/completions", json=ask(stream=True)) as reply:
            await anext(reply.aiter_raw())
    else:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=ask(), timeout=0.4)
    await engine.idle(within=2)
    async with asyncio.timeout(2):
        while gateway.parts.limits.in_flight:
            await asyncio.sleep(0.01)
    assert engine.aborted == 1
    assert gateway.outcomes() == {"client_gone": 1}


async def test_streams_beyond_the_bound_get_429_and_no_queue(engine: ScriptedEngine) -> None:
    engine.script = Script.words(STORY, delay=0.02)
    settings = quick_settings(limits=LimitSettings(streams=2))
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as gateway,
        client_for(gateway) as client,
    ):
        asks = [client.post("/v1/chat/completions", json=ask()) for _ in range(5)]
        responses = await asyncio.gather(*asks)
        assert sorted(r.status_code for r in responses) == [200, 200, 429, 429, 429]
        refused = next(r for r in responses if r.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await client.post("/v1/chat/completions", json=ask())).status_code == 200
        assert gateway.outcomes() == {"completed": 3, "rejected": 3}


async def test_a_shutdown_in_mid_stream_is_told_to_the_client(engine: ScriptedEngine) -> None:
    engine.script = Script.words(STORY * 20, delay=0.02)
    lines: list[str] = []
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        async with run_gateway(
            quick_settings(), engine_url=engine.url, guard=scripted_guard(), drain_s=1
        ) as gateway:
            url = f"{gateway.url}/v1/chat/completions"

            async def read() -> None:
                async with client.stream("POST", url, json=ask(stream=True)) as response:
                    lines.extend([line async for line in response.aiter_lines() if line])

            reading = asyncio.create_task(read())
            while not engine.running:
                await asyncio.sleep(0.01)
        await reading
    assert lines[-1] == "data: [DONE]"
    assert "shutting down" in lines[-2]
    assert gateway.outcomes() == {"engine_failed": 1}


async def test_outcomes_add_up_to_requests_over_a_mixed_load(engine: ScriptedEngine) -> None:
    scorer = ScriptedScorer(
        trouble=GuardTimeout,
        troubled=lambda s: s.conversation[-1].text == "unjudgeable",
    )
    settings = quick_settings(limits=LimitSettings(streams=40))

    def script(body: dict[str, Any]) -> Script:
        said = body["messages"][-1]["content"]
        if said == "engine dies":
            return Script.words(STORY, ending=Ending.RESET)
        return Script.words(BAD_STORY if said == "bad reply" else STORY, delay=0.002)

    engine.script = script
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard(scorer)) as gateway,
        client_for(gateway, limits=httpx.Limits(max_connections=100)) as client,
    ):

        async def one(kind: str, streamed: bool) -> None:
            timeout = 0.05 if kind == "leaves" else 20
            body = ask(kind, stream=streamed) if kind != "malformed" else {"model": 3}
            try:
                await client.post("/v1/chat/completions", json=body, timeout=timeout)
            except httpx.ReadTimeout:
                assert kind == "leaves"

        kinds = {
            "fine": "completed",
            "a bomb": "blocked_prompt",
            "bad reply": "blocked_response",
            "leaves": "client_gone",
            "engine dies": "engine_failed",
            "unjudgeable": "guard_failed",
            "malformed": "rejected",
        }
        await asyncio.gather(*(one(kind, s) for kind in kinds for s in (True, False)))
        async with asyncio.timeout(3):
            while gateway.sample("safechat_turns_in_flight"):
                await asyncio.sleep(0.01)
        assert gateway.outcomes() == dict.fromkeys(kinds.values(), 2)
        received = gateway.sample("safechat_requests_received_total")
        assert received == sum(gateway.outcomes().values()) == 14
        await engine.idle()
        assert gateway.parts.limits.in_flight == 0
