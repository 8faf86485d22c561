"""Prometheus metrics of one gateway process. Labels are bounded: never a user, key or id.

Each subject has a file, with its metrics and what is reported to them. Every label that is known
beforehand is shown at 0 from the start: Prometheus sees no rise in a series that begins at 1.
"""

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from server.metrics.backends import BackendMetrics
from server.metrics.guard import GuardMetrics
from server.metrics.journal import JournalMetrics
from server.metrics.requests import RequestMetrics
from server.metrics.review import ReviewMetrics
from server.metrics.turns import TurnMetrics
from server.metrics.versions import VersionMetrics

__all__ = ["Metrics"]


class Metrics:
    """All metrics by subject, in a registry of their own. `turns` is the `Observer` of turns."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = RequestMetrics(self.registry)
        self.turns = TurnMetrics(self.registry)
        self.guard = GuardMetrics(self.registry)
        self.journal = JournalMetrics(self.registry)
        self.review = ReviewMetrics(self.registry)
        self.backends = BackendMetrics(self.registry)
        self.versions = VersionMetrics(self.registry)

    def expose(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)
