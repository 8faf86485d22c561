"""The official openai client works unchanged, and its error classes map right."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from server.auth import hash_key
from server.settings import ApiKey, LimitSettings, Scope
from tests.fakes.gateway import RunningGateway, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script, tool_call
from tests.fakes.scripted_engine import ScriptedEngine

TEXT = "Here are three good books about the sea, with a word on each of them."
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name three books."}]


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(Script.words(TEXT)) as engine:
        yield engine


@pytest.fixture
async def gateway(engine: ScriptedEngine) -> AsyncIterator[RunningGateway]:
    keys = (ApiKey(id="one", sha256=hash_key("sk-one")),)
    settings = quick_settings(keys=keys, limits=LimitSettings(streams=1))
    async with run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="sk-one", max_retries=0
    ) as client:
        yield client


async def test_completions_streams_and_models(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="scripted", messages=MESSAGES)
    assert whole.choices[0].message.content == TEXT
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    stream = await client.chat.completions.create(
        model="scripted",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == TEXT
    assert chunks[-1].usage is not None
    assert [m.id for m in (await client.models.list()).data] == ["scripted"]


async def test_the_guard_object_reaches_the_application(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="scripted", messages=MESSAGES)
    assert whole.choices[0].model_extra is not None
    assert whole.choices[0].model_extra["guard"]["verdict"] == "allow"


async def test_the_streaming_helper_folds_tool_calls(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    deltas = [tool_call(0, "find"), *(tool_call(0, arguments=a) for a in ('{"q": ', '"sea"}'))]
    engine.script = Script(deltas=(deltas,), finish_reason="tool_calls")
    async with client.chat.completions.stream(
        model="scripted",
        messages=MESSAGES,
        tools=[{"type": "function", "function": {"name": "find"}}],
    ) as stream:
        final = await stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert call.function.arguments == '{"q": "sea"}'
    assert final.choices[0].finish_reason == "tool_calls"


def test_the_synchronous_client_works() -> None:
    def ask(url: str) -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="scripted", messages=MESSAGES)
            stream = client.chat.completions.create(
                model="scripted",
                messages=MESSAGES,
                stream=True,
            )
            streamed = "".join(c.choices[0].delta.content or "" for c in stream)
        return whole.choices[0].message.content, streamed

    async def main() -> tuple[str | None, str]:
        async with (
            ScriptedEngine(Script.words(TEXT)) as engine,
            run_gateway(quick_settings(), engine_url=engine.url, guard=scripted_guard()) as gateway,
        ):
            return await asyncio.to_thread(ask, gateway.url)

    assert asyncio.run(main()) == (TEXT, TEXT)


async def test_error_classes(
    client: openai.AsyncOpenAI, engine: ScriptedEngine, gateway: RunningGateway
) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model="scripted", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        await create(model="another", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-two").models.list()
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(openai.BadRequestError) as too_long:
        await create(model="scripted", messages=long)
    assert too_long.value.code == "context_length_exceeded"
    caller = gateway.parts.auth.require("Bearer sk-one", Scope.CHAT)
    async with gateway.parts.limits.permit(caller):
        with pytest.raises(openai.RateLimitError) as limited:
            await create(model="scripted", messages=MESSAGES)
    assert int(limited.value.response.headers["retry-after"]) >= 1
    await engine.stop()
    with pytest.raises(openai.InternalServerError) as down:
        await create(model="scripted", messages=MESSAGES)
    assert down.value.status_code == 503
