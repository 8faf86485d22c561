"""Writes down what became of each request, once, before its client sees the end."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import time

import anyio
import structlog

from flywheel import records
from flywheel.journal import Journal, JournalUnavailable
from flywheel.records import (
    Attempt,
    ChoiceRecord,
    PromptRecord,
    RecordedMessage,
    RefusalSource,
    Timings,
    TokenUsage,
    TurnAction,
    TurnRecord,
)
from guard.types import Axis, Flag
from server.choice import Choice
from server.engine import EngineInfo
from server.errors import JournalFailed
from server.ledger import Entry
from server.metrics.journal import JournalMetrics
from server.monitor import EngineMonitor
from server.turn import Turn

log = structlog.get_logger(__name__)
_NOBODY = "unknown"


class Recorder:
    """Puts finished requests into the journal. journal: None where none is kept.

    required: a turn that cannot be recorded fails; otherwise it is served and counted.
    span: opened around each record.
    """

    def __init__(
        self,
        journal: Journal | None,
        monitor: EngineMonitor,
        guard_models: Mapping[Axis, str],
        metrics: JournalMetrics,
        *,
        required: bool = False,
        span: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._journal = journal
        self._monitor = monitor
        self._guard_models = guard_models
        self._metrics = metrics
        self._required = required
        self._span = span
        if journal is not None:
            metrics.opened()

    async def write(self, entry: Entry) -> None:
        """Record a request whose outcome is known; durable once this returns.

        A second call does nothing. Raises JournalFailed where records are required.
        """
        if self._journal is None or entry.recorded:
            return
        entry.recorded = True
        with anyio.CancelScope(shield=True):
            try:
                known = self._monitor.known
                with self._span():
                    await self._journal.record(
                        record_of(entry, known, tuple(self._guard_models.values()))
                    )
                self._metrics.took(stored=True)
            except JournalUnavailable as error:
                self._metrics.took(stored=False)
                log.error("turn_not_recorded", turn_id=entry.turn_id, error=str(error))
                if self._required:
                    raise JournalFailed(
                        "this turn could not be recorded, so it is not served; try again later",
                        retry_after_s=5.0,
                    ) from error


def record_of(entry: Entry, engine: EngineInfo | None, guard_models: tuple[str, ...]) -> TurnRecord:
    """All that is known of a request once its outcome is."""
    turn, asked = entry.turn, entry.asked
    usage = turn.usage() if turn else {}
    seconds = entry.seconds
    return TurnRecord(
        turn_id=entry.turn_id,
        conversation_id=entry.conversation_id,
        time=time() - seconds,
        key_id=entry.caller or _NOBODY,
        engine=records.EngineInfo(
            model=asked.model if asked else engine.model, version=engine.version
        )
        if engine
        else None,
        guard_models=guard_models if turn else (),
        system=asked.system or None if asked else None,
        messages=tuple(RecordedMessage(role=m.role, text=m.text) for m in asked.said)
        if asked
        else None,
        prompt=_prompt(turn) if turn else PromptRecord(),
        choices=tuple(_choice(choice) for choice in turn.choices) if turn else (),
        attempts=_attempts(turn) if turn else (),
        flags=frozenset(turn.flags) if turn else frozenset(),
        outcome=entry.outcome,
        action=_action(turn) if turn else TurnAction.NONE,
        refusal_source=_refused_by(turn) if turn else None,
        timings=Timings(
            seconds=seconds,
            first_token_s=entry.first_token_s,
            guard_wait_s=turn.guard_wait_s if turn else 0.0,
        ),
        usage=TokenUsage(
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
        ),
        error=entry.error,
        streamed=entry.streamed,
        red_team=entry.red_team,
    )


def _prompt(turn: Turn) -> PromptRecord:
    found = turn.prompt
    return PromptRecord(
        safety=found.safety,
        verdict=found.verdict,
        hazard=found.hazard,
        flags=frozenset(found.flags),
    )


def _choice(choice: Choice) -> ChoiceRecord:
    found = choice.judgement
    return ChoiceRecord(
        index=choice.index,
        reply=choice.gate.text,
        finish_reason=choice.finish_reason,
        verdict=found.verdict,
        safety=found.safety,
        helpfulness=found.helpfulness,
        refusal=found.refusal,
        refusal_probability=found.refusal_probability,
        hazard=found.hazard,
        shown_before_block=choice.shown if choice.gate.blocked else 0,
        flags=frozenset(found.flags),
    )


def _attempts(turn: Turn) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            kind=tried.kind,
            reply=tried.choice.gate.text,
            safety=tried.choice.judgement.safety,
            helpfulness=tried.choice.judgement.helpfulness,
            reward=tried.reward,
            chosen=tried.chosen,
        )
        for tried in turn.tried
    )


def _action(turn: Turn) -> TurnAction:
    actions = {choice.judgement.action for choice in turn.choices} - {"none"}
    return TurnAction(min(actions)) if actions else TurnAction.NONE


def _refused_by(turn: Turn) -> RefusalSource | None:
    if any(choice.judgement.action == "block" for choice in turn.choices):
        return RefusalSource.GUARD
    return RefusalSource.MODEL if Flag.REFUSAL in turn.flags else None
