"""The composition root: the one place that wires the parts of the gateway together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from flywheel.journal import Journal
from flywheel.registry.versions import Registry
from flywheel.review.desk import ReviewDesk, ReviewOptions
from flywheel.review.priority import PriorityOptions, priority
from flywheel.review.rounds import Panel
from flywheel.store import open_journal
from guard.guard import Guard
from guard.types import Axis, RewardModel
from server.aside import Aside
from server.auth import Authenticator
from server.engine import Engine, VllmEngine
from server.error_answers import answer_errors
from server.gateway import Gateway
from server.instruction_stores import RedisInstructions, SqliteInstructions
from server.instructions import Instructions
from server.last_known import LastKnown
from server.ledger import Ledger
from server.limits import Limits
from server.local_engine import LocalEngine
from server.metrics import Metrics
from server.mirror import Mirror
from server.monitor import EngineMonitor
from server.open_guard import GuardParts, load_reward_model, open_guard
from server.package import package_version
from server.recorder import Recorder
from server.redis_link import RedisLink
from server.review_figures import ReviewFigures
from server.reviewing import SecondReplies, counter_of_findings
from server.routes import admin, chat, feedback, health, models, moderations, review, rlhf, score
from server.settings import OnJournalFailure, Settings
from server.shared_counts import SharedCounts
from server.tracing import Tracing, open_tracing
from server.versions import Versions

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
    answer_errors(app)
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
    if journal is None:
        journal = await _open_journal(settings, stack)
    if guard is None:
        streams = settings.limits.streams
        parts = await open_guard(settings.guard, streams, metrics.guard, stack)
    else:
        parts = GuardParts(guard)
    guard = parts.guard
    metrics.guard.describe(guard.models.values(), fail_open=guard.fail_open)
    local: LocalEngine | None = None
    if engine is None:
        engine, local = await _open_engine(settings, metrics, tracing, stack)
    versions = await _open_versions(settings, engine, parts, metrics, stack)
    monitor = EngineMonitor(
        engine,
        changed=metrics.backends.engine_up.set,
        prepare=versions.ready if versions else None,
    )
    await stack.enter_async_context(monitor)
    aside = Aside(engine, guard, metrics.turns)
    mirror = await _open_mirror(settings, versions, aside, metrics, stack)
    limits, instructions = await _open_shared(settings, metrics, stack)
    reviews: ReviewDesk | None = None
    if journal is not None:
        second = SecondReplies(engine, monitor, aside, ghost=settings.ghost, limits=limits)
        reviews = await _open_reviews(settings, journal, second, metrics, stack)
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
        observer=tracing.observer(metrics.turns),
        tracing=tracing,
        ledger=Ledger(metrics),
        recorder=Recorder(
            journal,
            monitor,
            guard.models,
            metrics.journal,
            required=_records_required(settings),
            span=tracing.record,
        ),
        journal=journal,
        reviews=reviews,
        local_engine=local,
        versions=versions,
        mirror=mirror,
    )


def _records_required(settings: Settings) -> bool:
    return settings.journal.on_failure is OnJournalFailure.REFUSE


async def _open_journal(settings: Settings, stack: AsyncExitStack) -> Journal | None:
    if not settings.journal.enabled:
        return None
    redis, review = settings.redis_url, _review_options(settings)
    keeping = open_journal(
        settings.journal.folder,
        settings.journal.options(lambda record: priority(record, review.priority).number),
        redis_url=redis.get_secret_value() if redis else None,
        patient=not _records_required(settings),
    )
    return await stack.enter_async_context(keeping)


async def _open_engine(
    settings: Settings, metrics: Metrics, tracing: Tracing, stack: AsyncExitStack
) -> tuple[Engine, LocalEngine | None]:
    """A client of the engine, and the engine itself where it is ours to start."""
    url, local = settings.engine.url, None
    if url is None:
        local = LocalEngine(
            settings.engine,
            max_lora_rank=settings.registry.max_lora_rank if settings.registry.folder else None,
            restarted=metrics.backends.engine_restarts.set,
        )
        await stack.enter_async_context(local)
        url = local.url
    client = VllmEngine(url, settings.engine, trace=tracing.outgoing)
    return await stack.enter_async_context(client), local


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
        metrics.guard.describe(parts.guard.models.values(), fail_open=parts.guard.fail_open)

    versions = Versions(
        Registry(folder),
        engine,
        load=load if parts.embedded else None,
        replace=replace if parts.embedded else None,
        behind=metrics.versions.behind,
        every_s=settings.registry.poll_s,
    )
    return await stack.enter_async_context(versions)


async def _open_mirror(
    settings: Settings,
    versions: Versions | None,
    aside: Aside,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> Mirror | None:
    share = settings.registry.shadow_share
    if versions is None or not share:
        return None
    mirror = Mirror(versions, aside, share=share, mirrored=metrics.versions.shadow_turns.inc)
    return await stack.enter_async_context(mirror)


async def _open_reviews(
    settings: Settings,
    journal: Journal,
    second: SecondReplies,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> ReviewDesk:
    found = counter_of_findings(metrics.review)
    desk = ReviewDesk(journal, _review_options(settings), second_reply=second, found=found)
    figures = ReviewFigures(desk, metrics.review, every_s=settings.review.figures_s)
    await stack.enter_async_context(figures)
    return desk


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
            changed=metrics.backends.redis_up.set,
            failed=metrics.backends.redis_failures.inc,
        )
    )
    counts = await stack.enter_async_context(SharedCounts(link))
    instructions = LastKnown(RedisInstructions(link))
    link.on_return(instructions.store_again)
    return Limits(settings.limits, counts), instructions
