"""The journal: what it took, and what it counts itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from flywheel.journal import Counters

# Counter of the journal, metric, and its meaning.
_COUNTERS = (
    ("pending", "pending", "Flagged turns that wait for review"),
    ("oldest_pending_s", "oldest_pending_seconds", "Age of the oldest of them"),
    ("reviewed", "reviewed", "Flagged turns that were reviewed"),
    ("spooled", "spooled", "Writes that wait for Redis"),
    ("dropped", "dropped", "Turns that could not be stored; must stay 0"),
    ("failures", "failures", "Calls that the journal could not answer"),
    ("quarantined", "quarantined", "Records found unreadable and put aside"),
    ("refused", "refused", "Writes that Redis refuses, kept on disk; must stay 0"),
)


class JournalMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._turns = Counter(
            "safechat_journal_turns",
            "Turns given to the journal, by result: stored or failed",
            ["result"],
            registry=registry,
        )
        self._counters = {
            name: Gauge(f"safechat_journal_{metric}", words, registry=registry)
            for name, metric, words in _COUNTERS
        }

    def opened(self) -> None:
        """Show what is counted of a journal; without one, nothing is."""
        for result in ("stored", "failed"):
            self._turns.labels(result)

    def took(self, *, stored: bool) -> None:
        """A turn was given to the journal."""
        self._turns.labels("stored" if stored else "failed").inc()

    def show(self, counters: Counters) -> None:
        """Show the journal's own counters."""
        for name, gauge in self._counters.items():
            gauge.set(getattr(counters, name))
