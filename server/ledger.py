"""One entry for each request, and exactly one outcome for each entry."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

import structlog

from flywheel.records import Outcome, RedTeam
from guard.refusal import FalseRefusal
from server.engine_request import EngineRequest
from server.metrics import Metrics
from server.turn import Turn

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Entry:
    """One request on its way. Until proved otherwise its client has gone."""

    turn_id: str = field(default_factory=lambda: uuid4().hex)
    started: float = field(default_factory=perf_counter)
    outcome: Outcome = Outcome.CLIENT_GONE
    caller: str | None = None
    error: str | None = None
    turn: Turn | None = None
    first_token_s: float | None = None
    streamed: bool = False
    conversation_id: str | None = None
    red_team: RedTeam | None = None
    status: int | None = None
    asked: EngineRequest | None = None
    recorded: bool = False

    @property
    def seconds(self) -> float:
        """Since the request arrived."""
        return perf_counter() - self.started

    def saw_text(self) -> None:
        """Some text left for the client."""
        if self.first_token_s is None:
            self.first_token_s = perf_counter() - self.started


class Ledger:
    """Counts every request once when it arrives and once, by outcome, when it ends."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def settled(self, within_s: float) -> None:
        """Wait until every request has ended, at most `within_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._none_open.wait()

    @contextmanager
    def entry(self) -> Iterator[Entry]:
        entry = Entry()
        self._open += 1
        self._none_open.clear()
        self._metrics.requests.received.inc()
        self._metrics.requests.in_flight.inc()
        try:
            yield entry
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()
            self._metrics.requests.in_flight.dec()
            self._metrics.requests.ended(entry.outcome)
            self._close(entry)

    def _close(self, entry: Entry) -> None:
        seconds = entry.seconds
        turn = entry.turn
        if turn is not None:
            self._measure(entry, turn, seconds)
        log.info(
            "turn",
            turn_id=entry.turn_id,
            outcome=entry.outcome.value,
            caller=entry.caller,
            error=entry.error,
            streamed=entry.streamed,
            flags=sorted(flag.value for flag in turn.flags) if turn else [],
            seconds=round(seconds, 4),
            first_token_s=entry.first_token_s and round(entry.first_token_s, 4),
        )

    def _measure(self, entry: Entry, turn: Turn, seconds: float) -> None:
        usage = turn.usage()
        completion = usage.get("completion_tokens", 0)
        self._metrics.turns.started()
        self._metrics.requests.tokens(usage.get("prompt_tokens", 0), completion)
        self._metrics.turns.flagged(turn.flags)
        for found in {c.judgement.false_refusal for c in turn.choices}:
            if found is not None:
                self._false_refusal(entry, turn, found)
        for choice in turn.choices:
            self._metrics.turns.held(choice.gate.held)
            if choice.gate.blocked:
                self._metrics.turns.shown_before_block(choice.shown)
        if entry.first_token_s is not None:
            self._metrics.requests.first_token(entry.first_token_s)
            if completion > 1:
                self._metrics.requests.per_token((seconds - entry.first_token_s) / (completion - 1))

    def _false_refusal(self, entry: Entry, turn: Turn, found: FalseRefusal) -> None:
        self._metrics.review.false_refusal(found)
        log.info(
            "false_refusal",
            turn_id=entry.turn_id,
            state="suspected",
            source=found.source.value,
            rule=found.rule.value,
            prompt_safety=turn.prompt.safety,
        )
