"""What users say of a turn, and what they want forgotten."""

from time import time
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from flywheel.journal import Entry, Journal, JournalUnavailable, NotYours, UnknownTurn
from flywheel.opinions import Feedback, FeedbackKind
from flywheel.records import RefusalSource
from guard.refusal import FalseRefusal, Source, Suspicion
from server.errors import JournalFailed, NotFound
from server.gateway import Gateway, gateway_of
from server.instructions import InstructionsUnavailable
from server.settings import Scope

log = structlog.get_logger(__name__)
router = APIRouter(tags=["feedback"])


class FeedbackRequest(BaseModel):
    """kind `appeal`: the turn was declined, and it was a fair question."""

    model_config = ConfigDict(extra="forbid")

    turn_id: str = Field(min_length=1, max_length=256)
    kind: FeedbackKind
    text: str = Field("", max_length=4000)


@router.post("/v1/feedback")
async def give_feedback(request: Request, body: FeedbackRequest) -> JSONResponse:
    """Rate, report or appeal a turn of one's own. Saying it twice is saying it once."""
    gateway = gateway_of(request)
    caller = gateway.auth.require(request.headers.get("authorization"), Scope.CHAT)
    await gateway.limits.check_rates(caller)
    journal = _journal(gateway)
    given = Feedback.of(body.turn_id, caller.id, body.kind, time(), body.text)
    try:
        before = await _known(journal, body.turn_id, caller.id)
        joined = await journal.feedback(given)
    except (UnknownTurn, NotYours):
        raise NotFound(
            f"there is no turn `{body.turn_id}` of yours; it may have been erased",
            param="turn_id",
            code="unknown_turn",
        ) from None
    except JournalUnavailable as error:
        raise _unavailable() from error
    if before is None or given.id not in {known.id for known in before.feedback}:
        _count(gateway, given, before)
    answer = {"id": given.id, "turn_id": given.turn_id, "kind": given.kind, "joined": joined}
    return JSONResponse(answer, status_code=200 if joined else 202)


@router.delete("/v1/conversations/{conversation_id:path}")
async def erase(request: Request, conversation_id: str) -> dict[str, Any]:
    """Erase a conversation of one's own everywhere. A single turn is named by its turn id."""
    gateway = gateway_of(request)
    caller = gateway.auth.require(request.headers.get("authorization"), Scope.CHAT)
    journal = _journal(gateway)
    try:
        await gateway.instructions.erase(caller.id, conversation_id)
        turns = await journal.erase(conversation_id, caller.id)
    except (UnknownTurn, NotYours):
        raise NotFound(
            f"there is no conversation `{conversation_id}` of yours",
            param="conversation_id",
            code="unknown_conversation",
        ) from None
    except (JournalUnavailable, InstructionsUnavailable) as error:
        raise _unavailable() from error
    log.info("conversation_erased", turns=turns)
    return {"conversation_id": conversation_id, "erased": True, "turns": turns}


def _journal(gateway: Gateway) -> Journal:
    if gateway.journal is None:
        raise NotFound("this gateway keeps no journal", code="no_journal")
    return gateway.journal


def _unavailable() -> JournalFailed:
    return JournalFailed("the journal cannot be written now; try again", retry_after_s=5.0)


async def _known(journal: Journal, turn_id: str, key_id: str) -> Entry | None:
    try:
        return await journal.turn(turn_id, key_id)
    except UnknownTurn:
        return None


def _count(gateway: Gateway, given: Feedback, before: Entry | None) -> None:
    gateway.metrics.review.feedback(given.kind)
    if given.kind is not FeedbackKind.APPEAL:
        return
    by_model = before is not None and before.record.refusal_source is RefusalSource.MODEL
    found = FalseRefusal(Source.MODEL if by_model else Source.GUARD, Suspicion.APPEAL)
    gateway.metrics.review.false_refusal(found)
    log.info(
        "false_refusal",
        turn_id=given.turn_id,
        state="suspected",
        source=found.source.value,
        rule=found.rule.value,
    )
