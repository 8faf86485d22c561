"""What operators look at: the policy in force, and the last flagged turns."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from flywheel.journal import Entry, JournalUnavailable
from flywheel.records import Content, Outcome, Probability, Seconds, TurnAction
from guard.hazards import Hazard
from guard.policy import Action, Rule
from guard.types import Flag
from server.errors import JournalFailed, NotFound
from server.gateway import gateway_of
from server.settings import GhostMode, OnFailure, Scope

router = APIRouter(prefix="/v1/admin", tags=["admin"])


class RuleInForce(BaseModel):
    """Below `threshold` a text is unsafe and `action` follows; `harms` have rules of their own."""

    action: Action
    threshold: Probability
    harms: dict[str, "RuleInForce"]

    @classmethod
    def of(cls, rule: Rule) -> "RuleInForce":
        harms = {str(harm): cls.of(own) for harm, own in rule.harms.items()}
        return cls(action=rule.action, threshold=rule.threshold, harms=harms)


class PolicyInForce(BaseModel):
    """models: of the guard, by axis. on_failure: what becomes of turns it cannot judge."""

    prompt: RuleInForce
    response: RuleInForce
    recover: bool
    best_of: int
    unhelpful_below: Probability
    doubt_margin: Probability
    on_failure: OnFailure
    ghost: GhostMode
    models: dict[str, str]


class FlaggedTurn(BaseModel):
    """A turn without a word of it. content: for keys that may review too, while it is kept."""

    turn_id: str
    time: float
    key_id: str
    outcome: Outcome
    action: TurnAction
    flags: list[Flag]
    hazard: Hazard | None
    prompt_safety: Probability | None
    safety: Probability | None
    helpfulness: Probability | None
    seconds: Seconds
    reviewed: bool
    content: Content | None

    @classmethod
    def of(cls, entry: Entry, *, with_content: bool) -> "FlaggedTurn":
        record = entry.record
        first = next(iter(record.choices), None)
        return cls(
            turn_id=record.turn_id,
            time=record.time,
            key_id=record.key_id,
            outcome=record.outcome,
            action=record.action,
            flags=sorted(record.flags),
            hazard=(first and first.hazard) or record.prompt.hazard,
            prompt_safety=record.prompt.safety,
            safety=first and first.safety,
            helpfulness=first and first.helpfulness,
            seconds=record.timings.seconds,
            reviewed=entry.reviewed,
            content=record.content if with_content else None,
        )


class FlaggedTurns(BaseModel):
    data: list[FlaggedTurn]


@router.get("/policy")
async def policy(request: Request) -> PolicyInForce:
    """The policy that this gateway acts by, and the models whose scores it reads."""
    gateway = gateway_of(request)
    gateway.auth.require(request.headers.get("authorization"), Scope.ADMIN)
    guard, decided = gateway.guard, gateway.guard.policy
    return PolicyInForce(
        prompt=RuleInForce.of(decided.prompt),
        response=RuleInForce.of(decided.response),
        recover=decided.recover,
        best_of=decided.best_of,
        unhelpful_below=decided.unhelpful_below,
        doubt_margin=decided.doubt_margin,
        on_failure=OnFailure.OPEN if guard.fail_open else OnFailure.CLOSED,
        ghost=gateway.settings.ghost.mode,
        models={str(axis): name for axis, name in guard.models.items()},
    )


@router.get("/flagged")
async def flagged(
    request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> FlaggedTurns:
    """The last flagged turns, newest first. Their content needs the scope `review` too."""
    gateway = gateway_of(request)
    caller = gateway.auth.require(request.headers.get("authorization"), Scope.ADMIN)
    if gateway.journal is None:
        raise NotFound("this gateway keeps no journal", code="no_journal")
    try:
        found = await gateway.journal.latest(limit)
    except JournalUnavailable as error:
        raise JournalFailed("the journal cannot be read now", retry_after_s=5.0) from error
    with_content = Scope.REVIEW in caller.scopes
    return FlaggedTurns(data=[FlaggedTurn.of(e, with_content=with_content) for e in found])
