"""The real vLLM goes on with the trace that the gateway passes to it."""

import asyncio
from pathlib import Path

import pytest

from server.engine_command import LLAMA2_TEMPLATE, EngineCommand
from server.engine_process import EngineProcess
from server.settings import EngineSettings, TracingSettings
from tests.fakes.chat import ask
from tests.fakes.gateway import client_for, quick_settings, run_gateway
from tests.fakes.otlp_collector import otlp_collector
from tests.fakes.scorer import scripted_guard

pytestmark = pytest.mark.verify


async def test_the_engine_s_own_span_stands_below_that_of_its_request(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    async with otlp_collector() as collector:
        sends_traces = ("--otlp-traces-endpoint", f"{collector.url}/v1/traces")
        command = EngineCommand(
            str(tiny_llama),
            "tiny-llama",
            max_model_len=1024,
            chat_template=LLAMA2_TEMPLATE,
            vllm_args=sends_traces,
        )
        async with EngineProcess(command, tmp_path / "engine.log") as vllm:
            await vllm.ready()
            settings = quick_settings(
                engine=EngineSettings(url=vllm.url), tracing=TracingSettings(endpoint=collector.url)
            )
            async with (
                run_gateway(settings, guard=scripted_guard()) as gateway,
                client_for(gateway) as client,
            ):
                body = {**ask(), "model": "tiny-llama", "max_tokens": 4}
                assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            async with asyncio.timeout(60):
                while not any(span.name == "llm_request" for span in collector.spans):
                    await asyncio.sleep(0.1)
    [request] = [span for span in collector.spans if span.name == "chat tiny-llama"]
    [below] = [span for span in collector.spans if span.name == "llm_request"]
    assert below.trace_id == request.trace_id
    assert below.parent_span_id == request.span_id
