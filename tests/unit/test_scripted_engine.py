"""The engine that other tests lean on speaks vLLM's dialect, and fails as told."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.fakes.script import Ending, Script, byte_by_byte, pieces_of, tool_call
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import GARBAGE, error_event

ASK: dict[str, Any] = {
    "model": "scripted",
    "stream": True,
    "messages": [{"role": "user", "content": "Hi"}],
}


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as running:
        yield running


@pytest.fixture
async def client(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=engine.url, trust_env=False) as opened:
        yield opened


async def body_of(client: httpx.AsyncClient, **more: Any) -> bytes:
    response = await client.post("/v1/chat/completions", json=ASK | more)
    response.raise_for_status()
    return response.content


def events_in(body: bytes) -> list[Any]:
    lines = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


async def test_stream_is_role_deltas_finish_usage_done(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script.words("Good\u2028day to you"))
    body = await body_of(client, stream_options={"include_usage": True})

    role, *texts, finish, usage, done = events_in(body)
    contents = [event["choices"][0]["delta"]["content"] for event in texts]
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert contents == ["Good", "\u2028day", " to", " you"]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["choices"][0]["delta"] == {"content": ""}
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert done == "[DONE]"
    assert "\u2028".encode() in body
    assert len({event["id"] for event in (role, *texts, finish, usage)}) == 1


async def test_without_include_usage_no_usage_event(client: httpx.AsyncClient) -> None:
    *chunks, _done = events_in(await body_of(client))
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["system_fingerprint"] == "scripted"


async def test_length_finishes_with_the_last_text(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script.words("one two", finish_reason="length"))
    *_, last, _done = events_in(await body_of(client))
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["choices"][0]["delta"] == {"content": " two"}


async def test_choices_are_interleaved_and_each_finishes(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script.words("a b c", "x"))
    chunks = events_in(await body_of(client, n=2))[:-1]
    seen = [(c["choices"][0]["index"], c["choices"][0]["delta"]["content"]) for c in chunks]
    assert seen == [(0, ""), (1, ""), (0, "a"), (1, "x"), (0, " b"), (1, ""), (0, " c"), (0, "")]


async def test_logprobs_travel_with_their_text(client: httpx.AsyncClient) -> None:
    chunks = events_in(await body_of(client, logprobs=True, top_logprobs=2))[:-1]
    entry = chunks[1]["choices"][0]["logprobs"]["content"][0]
    assert (entry["token"], len(entry["top_logprobs"])) == ("Hello", 2)
    assert chunks[0]["choices"][0]["logprobs"] is None


async def test_tool_calls_are_streamed_as_deltas(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    deltas = (tool_call(0, "look_up"), tool_call(0, arguments='{"q": 1}'))
    engine.enqueue(Script(deltas=(deltas,), finish_reason="tool_calls"))
    _role, opening, arguments, finish, _done = events_in(await body_of(client))
    function = opening["choices"][0]["delta"]["tool_calls"][0]["function"]
    assert function == {"name": "look_up", "arguments": ""}
    continued = arguments["choices"][0]["delta"]["tool_calls"][0]["function"]
    assert continued == {"arguments": '{"q": 1}'}
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("split", [None, byte_by_byte, pieces_of(7), pieces_of(1000)])
async def test_any_split_carries_the_same_bytes(
    engine: ScriptedEngine, client: httpx.AsyncClient, split: Any, whole: bool
) -> None:
    script = Script.words("héllo wörld 你好", split=split, split_whole=whole)
    engine.enqueue(script)
    body = await body_of(client)
    texts = [e["choices"][0]["delta"]["content"] for e in events_in(body)[:-1]]
    assert "".join(texts) == "héllo wörld 你好"


async def test_pieces_arrive_one_by_one(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    engine.enqueue(Script.words("one two", split=pieces_of(10)))
    async with client.stream("POST", "/v1/chat/completions", json=ASK) as response:
        sizes = [len(piece) async for piece in response.aiter_raw()]
    assert max(sizes) == 10


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (404, "NotFoundError"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailableError"),
    ],
)
async def test_status_is_answered_before_any_stream(
    engine: ScriptedEngine, client: httpx.AsyncClient, status: int, kind: str
) -> None:
    engine.enqueue(Script(status=status, error="no"))
    response = await client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == status
    assert response.json() == {
        "error": {"message": "no", "type": kind, "param": None, "code": status}
    }


async def test_unknown_model_and_long_prompt_are_refused_as_vllm_does(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    unknown = await client.post("/v1/chat/completions", json=ASK | {"model": "other"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    long = [{"role": "user", "content": "word " * engine.max_model_len}]
    refused = await client.post("/v1/chat/completions", json=ASK | {"messages": long})
    assert refused.status_code == 400
    assert "maximum context length" in refused.json()["error"]["message"]


@pytest.mark.parametrize("ending", [Ending.NO_DONE, Ending.CUT])
async def test_truncated_stream_ends_without_done(
    engine: ScriptedEngine, client: httpx.AsyncClient, ending: Ending
) -> None:
    engine.enqueue(Script(ending=ending))
    body = await body_of(client)
    assert b"[DONE]" not in body
    assert (b'"finish_reason":"stop"' in body) == (ending is Ending.NO_DONE)


async def test_reset_breaks_the_connection(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script(ending=Ending.RESET))
    with pytest.raises(httpx.HTTPError):
        await body_of(client)


@pytest.mark.parametrize("tail", [GARBAGE, error_event("out of memory")])
async def test_tail_stands_in_place_of_the_finish(
    engine: ScriptedEngine, client: httpx.AsyncClient, tail: bytes
) -> None:
    engine.enqueue(Script(tail=tail))
    body = await body_of(client, stream_options={"include_usage": True})
    assert body.endswith(tail + b"data: [DONE]\n\n")
    assert b'"finish_reason":"stop"' not in body
    assert b'"usage"' not in body


async def test_stall_lasts_until_the_client_leaves(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.enqueue(Script(ending=Ending.STALL))
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/chat/completions", json=ASK, timeout=0.2)
    await engine.idle()
    assert (engine.running, engine.aborted, engine.finished) == (0, 1, 0)


async def test_client_that_leaves_mid_stream_is_an_abort(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words("word " * 100, delay=0.01)
    async with client.stream("POST", "/v1/chat/completions", json=ASK) as response:
        async for _ in response.aiter_raw():
            break
        assert engine.running == 1
        assert 'model_name="scripted"} 1.0' in (await client.get("/metrics")).text
    await engine.idle()
    assert (engine.aborted, engine.finished) == (1, 0)


async def test_stopped_engine_refuses_and_returns_on_the_same_port(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    before = engine.url
    await engine.stop()
    with pytest.raises(httpx.ConnectError):
        await client.get("/health")
    await engine.start()
    assert engine.url == before
    assert (await client.get("/health")).status_code == 200


async def test_bodies_are_recorded_and_scripts_may_choose_by_them(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.script = lambda body: Script.words(body["messages"][-1]["content"].upper())
    assert b'"HI"' in await body_of(client, temperature=0.5)
    assert engine.bodies == [ASK | {"temperature": 0.5}]


async def test_delays_are_kept(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    engine.enqueue(Script(open_delay=0.1, first_delay=0.1))
    async with client.stream("POST", "/v1/chat/completions", json=ASK) as response:
        opened = clock()
        async for _ in response.aiter_raw():
            break
    assert opened - started >= 0.1
    assert clock() - started >= 0.2


async def test_not_streamed_is_the_fold_of_the_deltas(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=ASK | {"stream": False})
    assert response.json()["choices"][0]["message"]["content"] == "Hello there."


async def test_the_other_routes(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["data"]
    assert [(m["id"], m["max_model_len"]) for m in models] == [("scripted", 2048)]
    counted = (await client.post("/tokenize", json={"prompt": "three short words"})).json()
    assert (counted["count"], len(counted["tokens"]), counted["max_model_len"]) == (3, 3, 2048)
    chat = (await client.post("/tokenize", json={"messages": ASK["messages"]})).json()
    assert chat["count"] == 3
    assert "tokenizer_class" in (await client.get("/tokenizer_info")).json()
    engine.healthy = False
    assert (await client.get("/health")).status_code == 503
