"""The parts of a running gateway, as the routes see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from flywheel.journal import Journal
from flywheel.review.desk import ReviewDesk
from guard.guard import Guard
from guard.reward.breaker import State
from server.auth import Authenticator
from server.engine import Engine
from server.instructions import Instructions
from server.ledger import Ledger
from server.limits import Limits
from server.metrics import Metrics
from server.mirror import Mirror
from server.monitor import EngineMonitor
from server.observer import Observer
from server.recorder import Recorder
from server.settings import Settings
from server.tracing import Tracing
from server.versions import Versions


class Progress(Protocol):
    """How a local engine's start is going, in words for people."""

    def describe(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Gateway:
    """Wired by `server.app`, read by the routes."""

    settings: Settings
    engine: Engine
    monitor: EngineMonitor
    guard: Guard
    circuits: Callable[[], Mapping[str, State]]
    auth: Authenticator
    limits: Limits
    instructions: Instructions
    metrics: Metrics
    observer: Observer
    tracing: Tracing
    ledger: Ledger
    recorder: Recorder
    journal: Journal | None = None
    reviews: ReviewDesk | None = None
    local_engine: Progress | None = None
    versions: Versions | None = None
    mirror: Mirror | None = None


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request."""
    gateway: Gateway = request.app.state.gateway
    return gateway
