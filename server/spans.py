"""One trace for each chat request, after OpenTelemetry's conventions for generative AI.

    POST /v1/chat/completions     from the request's arrival to its last byte
    ├── guard prompt              from asking for a verdict to having it
    ├── chat MODEL                the engine, to the end of its stream; its own spans go below
    ├── guard response            one for each judged part of a reply
    └── journal                   until the record is durable

Names and numbers alone: no text of a prompt or reply, no stop words, no conversation's id.
Exceptions are named, not recorded, for their words may be the client's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter, time_ns
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flywheel.records import Outcome
from guard.types import GuardError, Score, Stage
from server.engine import Engine, EngineInfo, EngineStream, Json
from server.ledger import Entry
from server.observer import Observer
from server.package import package_version
from server.settings import TracingSettings

_EXPORT_TIMEOUT_S: Final = 5.0
_SAMPLING: Final = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
_FAILED: Final = frozenset({Outcome.ENGINE_FAILED, Outcome.GUARD_FAILED})
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@asynccontextmanager
async def exporting(settings: TracingSettings) -> AsyncIterator[TracerProvider]:
    """A provider that sends spans to `settings.endpoint` from a thread of its own."""
    session = requests.Session()
    session.trust_env = False  # a proxy's variables must not lead anything out of the house
    exporter = OTLPSpanExporter(
        f"{settings.endpoint}/v1/traces",
        headers={name: value.get_secret_value() for name, value in settings.headers.items()},
        timeout=_EXPORT_TIMEOUT_S,
        session=session,
    )
    named = {SERVICE_NAME: settings.service, SERVICE_VERSION: package_version()}
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.sample),
        resource=Resource.create(named),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider
    finally:
        await asyncio.to_thread(provider.shutdown)


class Spans:
    """The `Tracing` of turns. What is current in a task's context is its request's span."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("safechat", package_version())

    @contextmanager
    def request(self, entry: Entry, headers: Mapping[str, str]) -> Iterator[None]:
        attributes = {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "safechat.turn_id": entry.turn_id,
        }
        span = self._tracer.start_span(
            "POST /v1/chat/completions",
            _PROPAGATOR.extract(headers),
            SpanKind.SERVER,
            attributes,
        )
        with use_span(span, True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            finally:
                _describe(span, entry)

    @contextmanager
    def record(self) -> Iterator[None]:
        span = self._tracer.start_span("journal")
        try:
            yield
        except Exception as error:
            _fail(span, error)
            raise
        finally:
            span.end()

    def observer(self, observer: Observer) -> Observer:
        return _Observer(observer, self)

    def engine(self, engine: Engine) -> Engine:
        return _Engine(engine, self)

    def outgoing(self) -> Mapping[str, str]:
        headers = dict[str, str]()
        _PROPAGATOR.inject(headers)
        return headers

    def chat(self, body: Json) -> Span:
        """The span of one request to the engine."""
        asked = {name: body[key] for key, name in _SAMPLING.items() if _fits(body.get(key))}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": body["model"],
            "gen_ai.request.stream": True,
            "gen_ai.request.choice.count": body.get("n") or 1,
            **{f"gen_ai.request.{name}": value for name, value in asked.items()},
        }
        return self._tracer.start_span(
            f"chat {body['model']}", kind=SpanKind.CLIENT, attributes=attributes
        )

    def waited(self, name: str, seconds: float, **attributes: str) -> None:
        """A span that ends now."""
        now = time_ns()
        span = self._tracer.start_span(
            name, start_time=now - round(seconds * 1e9), attributes=dict(attributes)
        )
        span.end(now)


class _Observer:
    """Passes on what a turn reports, and makes spans and events of it."""

    def __init__(self, inner: Observer, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans

    def scored(self, stage: Stage, score: Score) -> None:
        self._inner.scored(stage, score)
        attributes = {
            "gen_ai.evaluation.name": score.axis.value,
            "gen_ai.evaluation.score.value": score.value,
            "safechat.guard.stage": stage.value,
            "safechat.guard.model": score.model,
        }
        get_current_span().add_event("gen_ai.evaluation.result", attributes)

    def waited_for_guard(self, stage: Stage, seconds: float) -> None:
        self._inner.waited_for_guard(stage, seconds)
        self._spans.waited(f"guard {stage}", seconds, **{"safechat.guard.stage": stage.value})

    def guard_failed(self, error: GuardError) -> None:
        self._inner.guard_failed(error)
        get_current_span().add_event("guard failed", {"error.type": type(error).__name__})

    def second_attempt(self, kind: str, result: str) -> None:
        self._inner.second_attempt(kind, result)
        attributes = {"safechat.attempt.kind": kind, "safechat.attempt.result": result}
        get_current_span().add_event("second attempt", attributes)

    def engine_asked_again(self) -> None:
        self._inner.engine_asked_again()
        get_current_span().add_event("engine asked again")


class _Engine:
    """An engine each of whose replies has a span."""

    def __init__(self, inner: Engine, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans

    async def info(self) -> EngineInfo:
        return await self._inner.info()

    async def count_tokens(self, body: Json) -> int:
        return await self._inner.count_tokens(body)

    async def healthy(self) -> bool:
        return await self._inner.healthy()

    async def open(self, body: Json) -> EngineStream:
        span = self._spans.chat(body)
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                return _Stream(await self._inner.open(body), span)
        except BaseException as error:  # a cancelled request has a span too
            _fail(span, error)
            span.end()
            raise


class _Stream:
    """A reply on its way, noted in its span, which ends with it or with its closing."""

    def __init__(self, inner: EngineStream, span: Span) -> None:
        self._inner = inner
        self._span = span
        self._opened = perf_counter()
        self._last: Json = {}
        self._reasons = dict[int, str]()

    def close(self) -> None:
        self._inner.close()
        self._end()

    async def __aiter__(self) -> AsyncIterator[Json]:
        try:
            async for chunk in self._inner:
                self._note(chunk)
                yield chunk
        except Exception as error:
            _fail(self._span, error)
            raise
        finally:
            self._end()

    def _note(self, chunk: Json) -> None:
        if not self._last:
            waited = perf_counter() - self._opened
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", waited)
        self._last = chunk
        for choice in chunk["choices"]:
            if choice.get("finish_reason"):
                self._reasons[choice["index"]] = choice["finish_reason"]

    def _end(self) -> None:
        if not self._span.is_recording():
            return
        usage = self._last.get("usage") or {}
        self._span.set_attributes(
            {
                "gen_ai.response.id": self._last.get("id", ""),
                "gen_ai.response.model": self._last.get("model", ""),
                "gen_ai.response.finish_reasons": list(self._reasons.values()),
                "gen_ai.usage.input_tokens": usage.get("prompt_tokens", 0),
                "gen_ai.usage.output_tokens": usage.get("completion_tokens", 0),
            }
        )
        self._span.end()


def _describe(span: Span, entry: Entry) -> None:
    """What became of a request."""
    turn = entry.turn
    found: dict[str, Any] = {
        "http.response.status_code": entry.status,
        "safechat.outcome": entry.outcome.value,
        "safechat.key_id": entry.caller,
        "safechat.streamed": entry.streamed,
        "safechat.time_to_first_token": entry.first_token_s,
        "safechat.flags": sorted(flag.value for flag in turn.flags) if turn else None,
        "error.type": entry.error,
    }
    span.set_attributes({name: value for name, value in found.items() if value is not None})
    if entry.outcome in _FAILED:
        span.set_status(Status(StatusCode.ERROR))


def _fits(value: float | None) -> bool:
    """Whether OTLP has room for it: a single number too large would lose a whole batch."""
    return value is not None and abs(value) < 2**63


def _fail(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))
