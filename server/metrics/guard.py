"""The guard's models: which they are, what they cost, and whether they are asked."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from guard.reward.breaker import State
from guard.types import Axis
from server.metrics.buckets import SECONDS
from server.package import package_version


class GuardMetrics:
    """What open_guard's parts report, whatever turn it is for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._build = Gauge(
            "safechat_build_info", "Versions in force", ["version", "guard"], registry=registry
        )
        self._fail_open = Gauge(
            "safechat_guard_fail_open",
            "1 where text is shown that the guard could not judge in time",
            registry=registry,
        )
        self._seconds = Histogram(
            "safechat_guard_batch_seconds",
            "One call of a reward model",
            ["axis"],
            buckets=SECONDS,
            registry=registry,
        )
        self._samples = Counter(
            "safechat_guard_samples", "Samples scored", ["axis"], registry=registry
        )
        self._circuit = Gauge(
            "safechat_guard_circuit",
            "1 for the state of a circuit breaker before a judge",
            ["circuit", "state"],
            registry=registry,
        )

    def describe(self, models: Iterable[str], *, fail_open: bool) -> None:
        self._build.clear()
        self._build.labels(package_version(), ",".join(sorted(models))).set(1)
        self._fail_open.set(fail_open)

    def batch(self, axis: Axis, samples: int, seconds: float) -> None:
        self._seconds.labels(axis.value).observe(seconds)
        self._samples.labels(axis.value).inc(samples)

    def labels(self, samples: int, seconds: float) -> None:
        """A call of the classifier."""
        self._seconds.labels("labels").observe(seconds)
        self._samples.labels("labels").inc(samples)

    def circuit(self, name: str, state: State) -> None:
        for one in State:
            self._circuit.labels(name, one.value).set(one is state)
