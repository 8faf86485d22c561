"""Prometheus metrics of one gateway process. Labels are bounded: never a user, key or id."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from flywheel.journal import Counters
from flywheel.opinions import FeedbackKind
from flywheel.records import AttemptKind, Outcome
from flywheel.registry.versions import Kind
from flywheel.review.false_refusals import State as RefusalState
from guard.refusal import FalseRefusal, Source, Suspicion
from guard.reward.breaker import State
from guard.types import Axis, Flag, GuardError, Score, Stage

_PROBABILITIES = tuple(round(i / 20, 2) for i in range(1, 21))
_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2, 5, 10, 30)
_CHARACTERS = (0, 8, 16, 32, 64, 128, 192, 256, 384, 512, 1024)


# Counter of the journal, metric, and its meaning.
_JOURNAL = (
    ("pending", "pending", "Flagged turns that wait for review"),
    ("oldest_pending_s", "oldest_pending_seconds", "Age of the oldest of them"),
    ("reviewed", "reviewed", "Flagged turns that were reviewed"),
    ("spooled", "spooled", "Writes that wait for Redis"),
    ("dropped", "dropped", "Turns that could not be stored; must stay 0"),
    ("failures", "failures", "Calls that the journal could not answer"),
    ("quarantined", "quarantined", "Records found unreadable and put aside"),
)


def package_version() -> str:
    try:
        return version("safechat")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """All metrics, in a registry of their own. Serves as the `Observer` of turns."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests_received = Counter(
            "safechat_requests_received", "Chat requests that arrived", registry=registry
        )
        self._requests = Counter(
            "safechat_requests",
            "Chat requests that ended, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.turns_in_flight = Gauge(
            "safechat_turns_in_flight", "Chat requests being answered", registry=registry
        )
        self._turns = Counter(
            "safechat_turns", "Turns that the engine was asked for", registry=registry
        )
        self._scores = Histogram(
            "safechat_guard_score",
            "Calibrated scores in [0, 1], higher is better",
            ["axis", "stage"],
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self._flags = Counter("safechat_flags", "Flags raised", ["flag"], registry=registry)
        self._guard_wait = Histogram(
            "safechat_guard_wait_seconds",
            "From asking for a verdict to having it",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._guard_batch = Histogram(
            "safechat_guard_batch_seconds",
            "One call of a reward model",
            ["axis"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._guard_samples = Counter(
            "safechat_guard_samples", "Samples scored", ["axis"], registry=registry
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
        self._false_refusals = Counter(
            "safechat_false_refusals",
            "Refusals of harmless prompts, by who refused, why it is doubted, and state",
            ["source", "rule", "state"],
            registry=registry,
        )
        self._feedback = Counter(
            "safechat_feedback", "What users said of turns", ["kind"], registry=registry
        )
        self._fail_open = Gauge(
            "safechat_guard_fail_open",
            "1 where text is shown that the guard could not judge in time",
            registry=registry,
        )
        self._journal_turns = Counter(
            "safechat_journal_turns",
            "Turns given to the journal, by result: stored or failed",
            ["result"],
            registry=registry,
        )
        self._journal = {
            name: Gauge(f"safechat_journal_{metric}", words, registry=registry)
            for name, metric, words in _JOURNAL
        }
        self._review_refusals = Gauge(
            "safechat_review_false_refusals",
            "Doubted refusals in the journal: suspected, confirmed or dismissed",
            ["state"],
            registry=registry,
        )
        self._review_agreement = Gauge(
            "safechat_review_agreement",
            "Gwet's AC2 of raters, by task of review",
            ["task"],
            registry=registry,
        )
        self._circuit = Gauge(
            "safechat_guard_circuit",
            "1 for the state of a circuit breaker before a judge",
            ["circuit", "state"],
            registry=registry,
        )
        self._ttft = Histogram(
            "safechat_time_to_first_token_seconds",
            "From the request's arrival to the first released text",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tpot = Histogram(
            "safechat_time_per_output_token_seconds",
            "Mean time per token after the first, by turn",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "safechat_tokens", "Tokens as the engine counts them", ["kind"], registry=registry
        )
        self._held = Histogram(
            "safechat_held_characters",
            "Characters held back when a turn ended",
            buckets=_CHARACTERS,
            registry=registry,
        )
        self._shown = Histogram(
            "safechat_shown_before_block_characters",
            "Characters shown before a blocked reply was stopped",
            buckets=_CHARACTERS,
            registry=registry,
        )
        self.engine_up = Gauge("safechat_engine_up", "1 when the engine is up", registry=registry)
        self._engine_restarts = Gauge(
            "safechat_engine_restarts", "Restarts of the engine's process", registry=registry
        )
        self.redis_up = Gauge(
            "safechat_redis_up", "1 when the shared Redis answers", registry=registry
        )
        self.redis_failures = Counter(
            "safechat_redis_failures",
            "Questions that the shared Redis did not answer in time",
            registry=registry,
        )
        self._build = Gauge(
            "safechat_build_info", "Versions in force", ["version", "guard"], registry=registry
        )
        self.shadow_turns = Counter(
            "safechat_shadow_turns",
            "Turns that the version in shadow answered as well",
            registry=registry,
        )
        self._behind = Gauge(
            "safechat_version_behind",
            "1 while the live version of the registry is not the one that serves",
            ["kind"],
            registry=registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show every known label at 0: Prometheus sees no rise in a series that begins at 1."""
        for outcome in Outcome:
            self._requests.labels(outcome.value)
        for flag in Flag:
            self._flags.labels(flag.value)
        for error in GuardError.__subclasses__():
            self._guard_errors.labels(error.__name__)
        for source, rule, state in product(Source, Suspicion, RefusalState):
            self._false_refusals.labels(source.value, rule.value, state.value)
        for said in FeedbackKind:
            self._feedback.labels(said.value)
        for kind in (AttemptKind.STEER, AttemptKind.RECOVER):
            for result in ("kept", "dropped", "failed"):
                self._second_attempts.labels(kind.value, result)

    def expose(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)

    def describe(self, guard_models: Iterable[str], *, fail_open: bool) -> None:
        self._build.clear()
        self._build.labels(package_version(), ",".join(sorted(guard_models))).set(1)
        self._fail_open.set(fail_open)

    def journal_opened(self) -> None:
        """Show what is counted of a journal; without one, nothing is."""
        for result in ("stored", "failed"):
            self._journal_turns.labels(result)

    def journal_took(self, *, stored: bool) -> None:
        """A turn was given to the journal."""
        self._journal_turns.labels("stored" if stored else "failed").inc()

    def version_behind(self, kind: Kind, is_behind: bool) -> None:
        self._behind.labels(kind.value).set(is_behind)

    def ended(self, outcome: Outcome) -> None:
        self._requests.labels(outcome.value).inc()

    def turn_started(self) -> None:
        self._turns.inc()

    def flagged(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            self._flags.labels(flag.value).inc()

    def scored(self, stage: Stage, score: Score) -> None:
        self._scores.labels(score.axis.value, stage.value).observe(score.value)

    def waited_for_guard(self, stage: Stage, seconds: float) -> None:
        self._guard_wait.labels(stage.value).observe(seconds)

    def guard_failed(self, error: GuardError) -> None:
        self._guard_errors.labels(type(error).__name__).inc()

    def engine_asked_again(self) -> None:
        self._engine_retries.inc()

    def second_attempt(self, kind: str, result: str) -> None:
        self._second_attempts.labels(kind, result).inc()

    def false_refusal(self, found: FalseRefusal, state: str = "suspected") -> None:
        self._false_refusals.labels(found.source.value, found.rule.value, state).inc()

    def feedback(self, kind: str) -> None:
        self._feedback.labels(kind).inc()

    def journal(self, counters: Counters) -> None:
        """Show the journal's own counters."""
        for name, gauge in self._journal.items():
            gauge.set(getattr(counters, name))

    def review(self, refusals: Mapping[RefusalState, int], agreement: Mapping[str, float]) -> None:
        """Show what raters have found: refusals by what became of the doubt, and AC2 by task."""
        for state, number in refusals.items():
            self._review_refusals.labels(state.value).set(number)
        for task, value in agreement.items():
            self._review_agreement.labels(task).set(value)

    def guard_labels(self, samples: int, seconds: float) -> None:
        self._guard_batch.labels("labels").observe(seconds)
        self._guard_samples.labels("labels").inc(samples)

    def circuit(self, name: str, state: State) -> None:
        for one in State:
            self._circuit.labels(name, one.value).set(one is state)

    def guard_batch(self, axis: Axis, samples: int, seconds: float) -> None:
        self._guard_batch.labels(axis.value).observe(seconds)
        self._guard_samples.labels(axis.value).inc(samples)

    def first_token(self, seconds: float) -> None:
        self._ttft.observe(seconds)

    def per_token(self, seconds: float) -> None:
        self._tpot.observe(seconds)

    def tokens(self, prompt: int, completion: int) -> None:
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)

    def held(self, characters: int) -> None:
        self._held.observe(characters)

    def shown_before_block(self, characters: int) -> None:
        self._shown.observe(characters)

    def engine_restarts(self, count: int) -> None:
        self._engine_restarts.set(count)
