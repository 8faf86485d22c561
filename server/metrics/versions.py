"""Versions out of the registry: the live one, and the one in shadow."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from flywheel.registry.versions import Kind


class VersionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
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

    def behind(self, kind: Kind, is_behind: bool) -> None:
        self._behind.labels(kind.value).set(is_behind)
