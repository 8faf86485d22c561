"""Turns: what they were worth, what they waited for, and what was made of them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from flywheel.records import AttemptKind
from guard.types import Flag, GuardError, Score, Stage
from server.metrics.buckets import CHARACTERS, PROBABILITIES, SECONDS


class TurnMetrics:
    """Serves as the `Observer` of turns."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "safechat_turns", "Turns that the engine was asked for", registry=registry
        )
        self._scores = Histogram(
            "safechat_guard_score",
            "Calibrated scores in [0, 1], higher is better",
            ["axis", "stage"],
            buckets=PROBABILITIES,
            registry=registry,
        )
        self._flags = Counter("safechat_flags", "Flags raised", ["flag"], registry=registry)
        self._guard_wait = Histogram(
            "safechat_guard_wait_seconds",
            "From asking for a verdict to having it",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._guard_errors = Counter(
            "safechat_guard_errors", "Verdicts that failed", ["error"], registry=registry
        )
        self._engine_retries = Counter(
            "safechat_engine_retries",
            "Turns asked of the engine again, after it failed before anything was shown",
            registry=registry,
        )
        self._second_attempts = Counter(
            "safechat_second_attempts",
            "Attempts under a preprompt, by kind and what became of them",
            ["kind", "result"],
            registry=registry,
        )
        self._held = Histogram(
            "safechat_held_characters",
            "Characters held back when a turn ended",
            buckets=CHARACTERS,
            registry=registry,
        )
        self._shown = Histogram(
            "safechat_shown_before_block_characters",
            "Characters shown before a blocked reply was stopped",
            buckets=CHARACTERS,
            registry=registry,
        )
        for flag in Flag:
            self._flags.labels(flag.value)
        for error in GuardError.__subclasses__():
            self._guard_errors.labels(error.__name__)
        for kind in (AttemptKind.STEER, AttemptKind.RECOVER):
            for result in ("kept", "dropped", "failed"):
                self._second_attempts.labels(kind.value, result)

    def started(self) -> None:
        self._started.inc()

    def scored(self, stage: Stage, score: Score) -> None:
        self._scores.labels(score.axis.value, stage.value).observe(score.value)

    def flagged(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            self._flags.labels(flag.value).inc()

    def waited_for_guard(self, stage: Stage, seconds: float) -> None:
        self._guard_wait.labels(stage.value).observe(seconds)

    def guard_failed(self, error: GuardError) -> None:
        self._guard_errors.labels(type(error).__name__).inc()

    def engine_asked_again(self) -> None:
        self._engine_retries.inc()

    def second_attempt(self, kind: str, result: str) -> None:
        self._second_attempts.labels(kind, result).inc()

    def held(self, characters: int) -> None:
        self._held.observe(characters)

    def shown_before_block(self, characters: int) -> None:
        self._shown.observe(characters)
