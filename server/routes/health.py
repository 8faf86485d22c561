"""What operators ask: alive, ready, and measured."""

from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from flywheel.journal import JournalUnavailable
from guard.reward.breaker import State
from guard.types import Axis
from server.gateway import gateway_of

log = structlog.get_logger(__name__)
router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive. Says nothing about the engine."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 when a turn can be served, else 503 with what is missing."""
    gateway = gateway_of(request)
    up, circuits = gateway.monitor.up, gateway.circuits()
    judged = gateway.guard.fail_open or State.OPEN not in {
        state for name, state in circuits.items() if name.endswith(f"-{Axis.SAFETY}")
    }
    ready = up and judged
    body: dict[str, Any] = {
        "status": "ready" if ready else "not ready",
        "engine": {"up": up},
        "guard": {"up": judged, "models": gateway.guard.models, "circuits": circuits},
    }
    if gateway.local_engine is not None:
        state = gateway.local_engine.describe()
        if gateway.settings.keys:
            del state["detail"]  # it may name local paths, and strangers may ask here
        body["engine"] |= state
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this gateway. vLLM's own stay at the engine."""
    gateway = gateway_of(request)
    if gateway.journal is not None:
        try:
            gateway.metrics.journal.show(await gateway.journal.counters())
        except JournalUnavailable as error:
            log.warning("journal_not_counted", error=str(error))
    return Response(gateway.metrics.expose(), media_type=CONTENT_TYPE_LATEST)
