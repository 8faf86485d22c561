"""What the gateway leans on: its engine, and the Redis that it shares."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class BackendMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.engine_up = Gauge("safechat_engine_up", "1 when the engine is up", registry=registry)
        self.engine_restarts = Gauge(
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
