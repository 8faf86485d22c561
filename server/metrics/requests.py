"""Chat requests: how many came, how they ended, and how fast."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from flywheel.records import Outcome
from server.metrics.buckets import SECONDS


class RequestMetrics:
    """What the ledger counts of each request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "safechat_requests_received", "Chat requests that arrived", registry=registry
        )
        self._ended = Counter(
            "safechat_requests",
            "Chat requests that ended, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "safechat_turns_in_flight", "Chat requests being answered", registry=registry
        )
        self._first_token = Histogram(
            "safechat_time_to_first_token_seconds",
            "From the request's arrival to the first released text",
            buckets=SECONDS,
            registry=registry,
        )
        self._per_token = Histogram(
            "safechat_time_per_output_token_seconds",
            "Mean time per token after the first, by turn",
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "safechat_tokens", "Tokens as the engine counts them", ["kind"], registry=registry
        )
        for outcome in Outcome:
            self._ended.labels(outcome.value)

    def ended(self, outcome: Outcome) -> None:
        self._ended.labels(outcome.value).inc()

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def per_token(self, seconds: float) -> None:
        self._per_token.observe(seconds)

    def tokens(self, prompt: int, completion: int) -> None:
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)
