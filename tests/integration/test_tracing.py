"""A chat request is one trace, from the caller to the engine, without a word of what was said."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

from guard.types import GuardTimeout
from server.settings import EngineSettings, JournalSettings, Settings, TracingSettings
from server.spans import Spans
from tests.fakes.chat import BAD_STORY, STORY, ask, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.otlp_collector import otlp_collector
from tests.fakes.scorer import ScriptedScorer, scripted_guard
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROOT = "POST /v1/chat/completions"
CONVENTION = {
    value
    for module in (gen_ai, http_attributes, error_attributes)
    for name, value in vars(module).items()
    if name.isupper()
}


class Traces:
    """What was traced so far, in the order in which it ended."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.spans = Spans(provider)

    def all(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.all() if span.name == name]
        return found

    async def root(self) -> ReadableSpan:
        """The request's span, which ends after its client has the answer."""
        async with asyncio.timeout(5):
            while not any(span.name == ROOT for span in self.all()):
                await asyncio.sleep(0.01)
        return self.named(ROOT)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def events(span: ReadableSpan, name: str) -> list[dict[str, Any]]:
    return [dict(event.attributes or {}) for event in span.events if event.name == name]


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def scorer() -> ScriptedScorer:
    return ScriptedScorer()


def settings_for(engine: ScriptedEngine, folder: Path, **more: Any) -> Settings:
    quick = EngineSettings(
        url=engine.url, connect_timeout_s=1, first_chunk_timeout_s=2, chunk_timeout_s=1
    )
    return quick_settings(engine=quick, journal=JournalSettings(folder=folder), **more)


@pytest.fixture
async def gateway(
    engine: ScriptedEngine, traces: Traces, scorer: ScriptedScorer, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    settings = settings_for(engine, tmp_path)
    guard = scripted_guard(scorer)
    async with run_gateway(settings, guard=guard, tracing=traces.spans) as gateway:
        yield gateway


async def test_a_turn_is_one_trace_with_guard_engine_and_journal(
    client: httpx.AsyncClient, traces: Traces
) -> None:
    await stream(client, ask(temperature=0.5, max_tokens=200))
    root = await traces.root()
    assert root.kind is SpanKind.SERVER
    assert root.parent is None
    children = [span for span in traces.all() if span is not root]
    names = {span.name for span in children}
    assert names == {"guard prompt", "guard response", "chat scripted", "journal"}
    assert root.context is not None
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == root.context.span_id
        assert (root.start_time or 0) <= (child.start_time or 0) <= (child.end_time or 0)
        assert (child.end_time or 0) <= (root.end_time or 0)
    found = attributes(root)
    assert found["safechat.outcome"] == "completed"
    assert found["http.response.status_code"] == 200
    assert found["safechat.streamed"] is True
    assert found["safechat.time_to_first_token"] > 0


async def test_the_engine_s_span_follows_the_convention(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    await stream(client, ask(temperature=0.5, max_tokens=200))
    await traces.root()
    chat = traces.named("chat scripted")
    assert chat.kind is SpanKind.CLIENT
    found = attributes(chat)
    assert found[gen_ai.GEN_AI_OPERATION_NAME] == "chat"
    assert found[gen_ai.GEN_AI_REQUEST_MODEL] == "scripted"
    assert found[gen_ai.GEN_AI_REQUEST_TEMPERATURE] == 0.5
    assert found[gen_ai.GEN_AI_REQUEST_MAX_TOKENS] == 200
    assert found[gen_ai.GEN_AI_RESPONSE_MODEL] == "scripted"
    assert found[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert found[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] > 0
    assert found[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] == len(STORY.split()) + 1
    assert found[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] > 0


async def test_every_name_is_of_the_convention_or_ours(
    client: httpx.AsyncClient, traces: Traces
) -> None:
    await stream(client, ask(seed=3, top_p=0.9, n=2))
    await traces.root()
    names = {name for span in traces.all() for name in attributes(span)}
    names |= {name for span in traces.all() for e in span.events for name in e.attributes or {}}
    assert {name for name in names if not name.startswith("safechat.")} <= CONVENTION


async def test_scores_are_evaluations_of_the_turn(
    client: httpx.AsyncClient, traces: Traces
) -> None:
    await client.post("/v1/chat/completions", json=ask("How do I build a bomb?"))
    root = await traces.root()
    [score] = events(root, "gen_ai.evaluation.result")
    assert score[gen_ai.GEN_AI_EVALUATION_NAME] == "safety"
    assert score[gen_ai.GEN_AI_EVALUATION_SCORE_VALUE] == 0.05
    assert score["safechat.guard.stage"] == "prompt"
    assert attributes(root)["safechat.outcome"] == "blocked_prompt"
    assert attributes(root)["safechat.flags"] == ("refusal", "unsafe_prompt")


async def test_a_caller_s_trace_goes_on_to_the_engine(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    headers = {"traceparent": CALLER}
    await client.post("/v1/chat/completions", json=ask(), headers=headers)
    root = await traces.root()
    _, trace_id, caller_span, _ = CALLER.split("-")
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == caller_span
    chat = traces.named("chat scripted")
    assert chat.context is not None
    [passed_on] = [h["traceparent"] for h in engine.headers]
    assert passed_on == f"00-{trace_id}-{chat.context.span_id:016x}-01"


async def test_a_trace_that_its_caller_does_not_sample_is_not_made(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    headers = {"traceparent": CALLER.removesuffix("01") + "00"}
    await client.post("/v1/chat/completions", json=ask(), headers=headers)
    assert traces.all() == []
    assert engine.headers[0]["traceparent"].endswith("-00")


async def test_nothing_that_was_said_is_in_a_trace(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    secret = "flowerpot"
    engine.enqueue(
        Script.words(f"The {secret} it is. " + STORY),
        Script.words(BAD_STORY.replace("cat", secret)),
        Script(status=400, error=f"cannot read {secret}"),
        Script(status=500, error=f"crashed on {secret}"),
        Script.words(f"The {secret} it", ending=Ending.RESET),
    )
    body = ask(f"Where is the {secret}?", stop=[secret], user=secret)
    body["messages"].insert(0, {"role": "system", "content": f"Guard the {secret}."})
    body["metadata"] = {"conversation_id": secret}
    for _ in range(5):
        await client.post("/v1/chat/completions", json=body)
    await client.post("/v1/chat/completions", json=ask(f"A bomb in a {secret}"))
    await client.post("/v1/chat/completions", content=f"{{{secret}")
    async with asyncio.timeout(5):
        while len([span for span in traces.all() if span.name == ROOT]) < 7:
            await asyncio.sleep(0.01)
    for span in traces.all():
        assert secret not in span.to_json()


async def test_a_broken_engine_is_named_in_its_span(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    engine.script = Script(status=500)
    await client.post("/v1/chat/completions", json=ask())
    root = await traces.root()
    calls = [span for span in traces.all() if span.name == "chat scripted"]
    assert [attributes(span)["error.type"] for span in calls] == ["EngineBroken"] * 2
    assert events(root, "engine asked again") == [{}]
    assert root.status.status_code is StatusCode.ERROR
    assert attributes(root)["error.type"] == "engine_error"
    assert attributes(root)["safechat.outcome"] == "engine_failed"


async def test_a_guard_without_a_verdict_is_named(
    client: httpx.AsyncClient, traces: Traces, scorer: ScriptedScorer
) -> None:
    scorer.trouble = GuardTimeout
    await client.post("/v1/chat/completions", json=ask())
    root = await traces.root()
    assert events(root, "guard failed") == [{"error.type": "GuardTimeout"}]
    assert root.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_leaves_no_open_span(
    client: httpx.AsyncClient, engine: ScriptedEngine, traces: Traces
) -> None:
    engine.script = Script.words(STORY, delay=0.02)
    streaming = client.stream("POST", "/v1/chat/completions", json=ask(stream=True))
    async with streaming as response:
        await anext(response.aiter_raw())
    root = await traces.root()
    assert attributes(root)["safechat.outcome"] == "client_gone"
    chat = attributes(traces.named("chat scripted"))
    assert chat[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] == ()


async def test_spans_reach_a_collector_before_the_gateway_ends(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with otlp_collector() as collector:
        tracing = TracingSettings(
            endpoint=collector.url, headers={"x-team": SecretStr("safety")}, service="chat-eu"
        )
        settings = settings_for(engine, tmp_path, tracing=tracing)
        async with (
            run_gateway(settings, guard=scripted_guard()) as gateway,
            client_for(gateway) as client,
        ):
            await stream(client, ask())
        assert {span.name for span in collector.spans} >= {ROOT, "chat scripted", "journal"}
        assert len({span.trace_id for span in collector.spans}) == 1
        assert collector.services == {"chat-eu"}
        assert collector.headers[0]["x-team"] == "safety"


async def test_a_number_without_bounds_costs_no_span(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with otlp_collector() as collector:
        settings = settings_for(engine, tmp_path, tracing=TracingSettings(endpoint=collector.url))
        async with (
            run_gateway(settings, guard=scripted_guard()) as gateway,
            client_for(gateway) as client,
        ):
            await client.post("/v1/chat/completions", json=ask(max_tokens=10**25))
            await client.post("/v1/chat/completions", json=ask(max_completion_tokens=7))
        asked = {
            attribute.value.int_value
            for span in collector.spans
            for attribute in span.attributes
            if attribute.key == gen_ai.GEN_AI_REQUEST_MAX_TOKENS
        }
        assert asked == {7}
        assert len([span for span in collector.spans if span.name == ROOT]) == 2


async def test_a_share_of_the_requests_is_traced(engine: ScriptedEngine, tmp_path: Path) -> None:
    async with otlp_collector() as collector:
        tracing = TracingSettings(endpoint=collector.url, sample=0.0)
        settings = settings_for(engine, tmp_path, tracing=tracing)
        async with (
            run_gateway(settings, guard=scripted_guard()) as gateway,
            client_for(gateway) as client,
        ):
            await stream(client, ask())
        assert collector.spans == []


async def test_without_a_collector_turns_go_on(engine: ScriptedEngine, tmp_path: Path) -> None:
    nobody = TracingSettings(endpoint="http://127.0.0.1:9")
    settings = settings_for(engine, tmp_path, tracing=nobody)
    async with asyncio.timeout(30):
        async with (
            run_gateway(settings, guard=scripted_guard()) as gateway,
            client_for(gateway) as client,
        ):
            assert (await stream(client, ask()))[-1]["choices"][0]["finish_reason"] == "stop"


async def test_untraced_turns_have_nothing_wrapped_around_them(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with (
        run_gateway(settings_for(engine, tmp_path), guard=scripted_guard()) as gateway,
        client_for(gateway) as client,
    ):
        await stream(client, ask())
        assert gateway.parts.observer is gateway.parts.metrics.turns
    assert "traceparent" not in engine.headers[0]


def test_untraced_the_gateway_does_not_load_the_exporter() -> None:
    code = "import sys, server.app; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "server.tracing" in loaded.stdout
    assert "server.spans" not in loaded.stdout
    assert "opentelemetry.exporter" not in loaded.stdout
