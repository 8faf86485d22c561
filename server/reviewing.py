"""What review needs of the gateway: another reply to compare with, and findings counted."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from flywheel.records import Outcome, RecordedMessage, RefusalSource, TurnRecord
from flywheel.review.false_refusals import Finding
from flywheel.review.priority import ReasonKind, priority
from guard.refusal import FalseRefusal, Source, Suspicion
from guard.types import Flag
from server.aside import Aside
from server.auth import Caller
from server.engine import Engine
from server.engine_request import EngineRequest
from server.errors import Rejected, TooManyRequests
from server.limits import Limits
from server.metrics.review import ReviewMetrics
from server.monitor import EngineMonitor
from server.schema import ChatRequest
from server.settings import GhostSettings

log = structlog.get_logger(__name__)

_REVIEW: Final = Caller("review", frozenset())
_TEMPERATURE: Final = 1.0
_MAX_TOKENS: Final = 512


class SecondReplies:
    """Asks the engine for another reply, through the guard: only judged text is shown.

    It counts as a stream in flight, of a caller of its own, and is no turn of anybody's.
    """

    def __init__(
        self,
        engine: Engine,
        monitor: EngineMonitor,
        aside: Aside,
        *,
        ghost: GhostSettings,
        limits: Limits,
    ) -> None:
        self._engine = engine
        self._monitor = monitor
        self._aside = aside
        self._limits = limits
        # What was recorded has the deployment's prompt in it already.
        self._ghost = ghost.model_copy(update={"system_prompt": None})

    async def __call__(self, messages: Sequence[RecordedMessage]) -> str | None:
        """Another reply; None: the conversation cannot be asked again, or it was blocked.

        Raises EngineFailed, GuardFailed, TooManyRequests.
        """
        info = self._monitor.info
        try:
            request = ChatRequest.model_validate(
                {
                    "model": info.model,
                    "messages": [{"role": m.role, "content": m.text} for m in messages],
                    "temperature": _TEMPERATURE,
                    "max_tokens": _MAX_TOKENS,
                }
            )
        except ValidationError:  # answers of tools, whose calls are not recorded
            return None
        async with self._limits.permit(_REVIEW):
            try:
                asked = EngineRequest(request, self._engine, info, self._ghost)
                turn, text = await self._aside.turn(asked, await asked.body())
            except TooManyRequests:
                raise
            except Rejected as error:
                log.info("no_second_reply", error=error.type, code=error.code)
                return None
        return text if turn.outcome is Outcome.COMPLETED else None


def counter_of_findings(metrics: ReviewMetrics) -> Callable[[Finding], None]:
    """Counts what raters find out about refusals."""

    def count(finding: Finding) -> None:
        metrics.false_refusal(suspicion_of(finding.record), finding.state)

    return count


def suspicion_of(record: TurnRecord) -> FalseRefusal:
    """Who refused, and by which rule it is doubted, as far as a record tells."""
    by_model = record.refusal_source is RefusalSource.MODEL
    source = Source.MODEL if by_model else Source.GUARD
    if Flag.GUARD_APPEAL in record.flags:
        return FalseRefusal(source, Suspicion.APPEAL)
    if Flag.FALSE_REFUSAL not in record.flags:
        return FalseRefusal(source, Suspicion.REVIEW)
    if by_model:
        return FalseRefusal(source, Suspicion.CLASSIFIER)
    near = any(r.kind is ReasonKind.NEAR_THRESHOLD for r in priority(record).reasons)
    return FalseRefusal(source, Suspicion.NEAR_THRESHOLD if near else Suspicion.DISPUTED)
