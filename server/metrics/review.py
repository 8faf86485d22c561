"""What people say of turns, and which refusals are doubted."""

from collections.abc import Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge

from flywheel.opinions import FeedbackKind
from flywheel.review.false_refusals import State
from guard.refusal import FalseRefusal, Source, Suspicion


class ReviewMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._doubted = Counter(
            "safechat_false_refusals",
            "Refusals of harmless prompts, by who refused, why it is doubted, and state",
            ["source", "rule", "state"],
            registry=registry,
        )
        self._feedback = Counter(
            "safechat_feedback", "What users said of turns", ["kind"], registry=registry
        )
        self._refusals = Gauge(
            "safechat_review_false_refusals",
            "Doubted refusals in the journal: suspected, confirmed or dismissed",
            ["state"],
            registry=registry,
        )
        self._agreement = Gauge(
            "safechat_review_agreement",
            "Gwet's AC2 of raters, by task of review",
            ["task"],
            registry=registry,
        )
        for source, rule, state in product(Source, Suspicion, State):
            self._doubted.labels(source.value, rule.value, state.value)
        for said in FeedbackKind:
            self._feedback.labels(said.value)

    def false_refusal(self, found: FalseRefusal, state: State = State.SUSPECTED) -> None:
        self._doubted.labels(found.source.value, found.rule.value, state.value).inc()

    def feedback(self, kind: FeedbackKind) -> None:
        self._feedback.labels(kind.value).inc()

    def show(self, refusals: Mapping[State, int], agreement: Mapping[str, float]) -> None:
        """What raters have found: refusals by what became of the doubt, and AC2 by task."""
        for state, number in refusals.items():
            self._refusals.labels(state.value).set(number)
        for task, value in agreement.items():
            self._agreement.labels(task).set(value)
