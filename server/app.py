"""The composition root: the one place that wires the parts of the gateway together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from flywheel.journal import Journal
from flywheel.registry.versions import Registry
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.priority import PriorityOptions, priority
from flywheel.review.rounds import Panel
from flywheel.store import open_journal
from guard.guard import Guard
from guard.types import Axis, RewardModel
from server.auth import Authenticator
from server.engine import Engine, VllmEngine
from server.errors import ApiError
from server.gateway import Gateway
from server.instruction_stores import RedisInstructions, SqliteInstructions
from server.instructions import Instructions
from server.last_known import LastKnown
from server.ledger import Ledger
from server.limits import Limits
from server.local_engine import LocalEngine
from server.metrics import Metrics, package_version
from server.mirror import Mirror
from server.monitor import EngineMonitor
from server.open_guard import GuardParts, load_reward_model, open_guard
from server.recorder import Recorder
from server.redis_link import RedisLink
from server.review_figures import ReviewFigures
from server.reviewing import SecondReplies, counter_of_findings
from server.routes import admin, chat, feedback, health, models, moderations, review, rlhf, score
from server.settings import OnJournalFailure, Settings
from server.shared_counts import SharedCounts
from server.tracing import Tracing, open_tracing
from server.versions import Versions

log = structlog.get_logger(__name__)
_LAST_WORDS_S = 5.0


def create_app(
    settings: Settings,
    *,
    engine: Engine | None = None,
    guard: Guard | None = None,
    journal: Journal | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The gateway as an ASGI application.

    engine, guard, journal, tracing: take the place of what `settings` describe; whoever passes them
    owns them. Opening raises GuardBroken when a reward model fails its self-test.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            gateway = app.state.gateway = await _open(
                settings, engine, guard, journal, tracing, stack
            )
            yield
            # Turns that the shutdown cancels still write down their end.
            await gateway.ledger.settled(_LAST_WORDS_S)

    app = FastAPI(
        title="SafeChat",
        version=package_version(),
        summary="Guarded chat completions in OpenAI's schema",
        lifespan=lifespan,
    )
    for routes in (chat, models, moderations, score, rlhf, feedback, review, admin, health):
        app.include_router(routes.router)
    _document_bodies(app)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    return app


def _document_bodies(app: FastAPI) -> None:
    """Complete the OpenAPI document with the bodies that routes read by themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(chat.COMPONENTS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _open(
    settings: Settings,
    engine: Engine | None,
    guard: Guard | None,
    journal: Journal | None,
    tracing: Tracing | None,
    stack: AsyncExitStack,
) -> Gateway:
    metrics = Metrics()
    if tracing is None:
        tracing = await open_tracing(settings.tracing, stack)
    reviewing = _review_options(settings)
    required = settings.journal.on_failure is OnJournalFailure.REFUSE
    if journal is None and settings.journal.enabled:
        redis = settings.redis_url
        keeping = open_journal(
            settings.journal.folder,
            settings.journal.options(lambda record: priority(record, reviewing.priority).number),
            redis_url=redis.get_secret_value() if redis else None,
            patient=not required,
        )
        journal = await stack.enter_async_context(keeping)
    if guard is None:
        parts = await open_guard(settings.guard, settings.limits.streams, metrics, stack)
    else:
        parts = GuardParts(guard)
    guard = parts.guard
    metrics.describe(guard.models.values(), fail_open=guard.fail_open)
    local: LocalEngine | None = None
    if engine is None:
        url = settings.engine.url
        if url is None:
            rank = settings.registry.max_lora_rank if settings.registry.folder else None
            local = await stack.enter_async_context(LocalEngine(settings.engine, metrics, rank))
            url = local.url
        engine = await stack.enter_async_context(
            VllmEngine(url, settings.engine, trace=tracing.outgoing)
        )
    versions = await _open_versions(settings, engine, parts, metrics, stack)
    monitor = EngineMonitor(
        engine,
        changed=metrics.engine_up.set,
        prepare=versions.ready if versions else None,
    )
    await stack.enter_async_context(monitor)
    mirror = None
    if versions is not None and settings.registry.shadow_share:
        mirror = Mirror(versions, engine, guard, metrics, share=settings.registry.shadow_share)
        await stack.enter_async_context(mirror)
    recorder = Recorder(
        journal,
        monitor,
        guard.models,
        metrics,
        required=required,
        span=tracing.record,
    )
    limits, instructions = await _open_shared(settings, metrics, stack)
    reviews = None
    if journal is not None:
        second = SecondReplies(
            engine, monitor, guard, ghost=settings.ghost, limits=limits, metrics=metrics
        )
        found = counter_of_findings(metrics)
        reviews = ReviewDesk(journal, reviewing, second_reply=second, found=found)
        figures = ReviewFigures(reviews, metrics, every_s=settings.review.figures_s)
        await stack.enter_async_context(figures)
    return Gateway(
        settings=settings,
        engine=tracing.engine(engine),
        monitor=monitor,
        guard=guard,
        circuits=lambda: parts.circuits,
        auth=Authenticator(settings.keys),
        limits=limits,
        instructions=instructions,
        metrics=metrics,
        observer=tracing.observer(metrics),
        tracing=tracing,
        ledger=Ledger(metrics),
        recorder=recorder,
        journal=journal,
        reviews=reviews,
        local_engine=local,
        versions=versions,
        mirror=mirror,
    )


async def _open_versions(
    settings: Settings, engine: Engine, parts: GuardParts, metrics: Metrics, stack: AsyncExitStack
) -> Versions | None:
    """The registry's versions, where one is named and the engine takes adapters."""
    folder = settings.registry.folder
    if folder is None or not isinstance(engine, VllmEngine):
        return None

    def load(axis: Axis, files: str | None) -> RewardModel:
        models = settings.guard.models if files is None else Path(files)
        return load_reward_model(settings.guard.model_copy(update={"models": models}), axis)

    def replace(axis: Axis, model: RewardModel) -> None:
        parts.replace(axis, model)
        metrics.describe(parts.guard.models.values(), fail_open=parts.guard.fail_open)

    versions = Versions(
        Registry(folder),
        engine,
        load=load if parts.embedded else None,
        replace=replace if parts.embedded else None,
        behind=metrics.version_behind,
        every_s=settings.registry.poll_s,
    )
    return await stack.enter_async_context(versions)


def _review_options(settings: Settings) -> ReviewOptions:
    guard, review = settings.guard, settings.review
    return ReviewOptions(
        panel=Panel(review.raters, all=review.all_raters),
        lease_s=review.lease_s,
        priority=PriorityOptions(
            prompt_threshold=guard.prompt.threshold,
            response_threshold=guard.response.threshold,
            margin=guard.doubt_margin,
            sample=review.sample,
        ),
        redact=settings.journal.redactor or str,
    )


async def _open_shared(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> tuple[Limits, Instructions]:
    """What gateways share through Redis; without one, each has its own."""
    if settings.redis_url is None:
        store = None
        if settings.journal.enabled:
            file = SqliteInstructions(settings.journal.folder / "instructions.sqlite")
            store = await stack.enter_async_context(file)
        return Limits(settings.limits), LastKnown(store)
    link = await stack.enter_async_context(
        RedisLink(
            settings.redis_url,
            request_s=settings.redis_timeout_s,
            changed=metrics.redis_up.set,
            failed=metrics.redis_failures.inc,
        )
    )
    counts = await stack.enter_async_context(SharedCounts(link))
    instructions = LastKnown(RedisInstructions(link))
    link.on_return(instructions.store_again)
    return Limits(settings.limits, counts), instructions


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, headers=dict(error.headers()))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    body = {"message": str(error.detail), "type": kind, "param": None, "code": None}
    return JSONResponse({"error": body}, error.status_code, headers=error.headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(step) for step in first["loc"][1:])
    body = {
        "message": f"`{param}`: {first['msg']}",
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_value",
    }
    return JSONResponse({"error": body}, 400)
