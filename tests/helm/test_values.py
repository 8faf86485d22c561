"""Unknown, wrong and impossible values are refused, each with its reason."""

import pytest

from tests.helm.chart import CHART, refusal, render


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("engine.tp=2", "at '/engine': additional properties 'tp' not allowed"),
        ("gatway.replicas=2", "additional properties 'gatway' not allowed"),
        ("preset=8b", "at '/preset': value must be one of '', '7b', '13b', '70b'"),
        ("gateway.replicas=0", "at '/gateway/replicas': minimum: got 0, want 1"),
        ("engine.tensorParallelSize=two", "at '/engine/tensorParallelSize': got string"),
        ("ui.enabled=perhaps", "at '/ui/enabled': got string, want boolean"),
        ("redis.bundled.size=big", "at '/redis/bundled/size'"),
        ("flywheel.export.format=csv", "at '/flywheel/export/format': value must be one of"),
        ("gateway.settings.guard.treshold=0.5", "additional properties 'treshold' not allowed"),
        ("gateway.settings.guard.prompt.threshold=2", "maximum: got 2, want 1"),
        ("gateway.settings.guard.prompt.action=shout", "value must be one of"),
    ],
)
def test_the_schema_refuses_what_is_unknown_or_wrong(value: str, reason: str) -> None:
    assert reason in refusal(value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["preset="], "no model: choose a preset (7b, 13b, 70b), or name one in engine.model"),
        (
            ["engine.tensorParallelSize=3"],
            "engine.tensorParallelSize 3 does not divide the model's 32 attention heads",
        ),
        (
            ["preset=13b", "engine.tensorParallelSize=16"],
            "engine.tensorParallelSize 16 does not divide the model's 40 attention heads",
        ),
        (
            ["engine.tensorParallelSize=8", "engine.gpusPerPod=4"],
            "engine.tensorParallelSize 8 exceeds the 4 GPUs of a pod",
        ),
        (
            ["engine.tensorParallelSize=2", "engine.pipelineParallelSize=2", "engine.gpusPerPod=2"],
            "exceeds the 2 GPUs (engine.gpusPerPod 2 times engine.nodes 1)",
        ),
        (
            ["engine.nodes=2", "engine.gpusPerPod=4", "engine.cache.existingClaim=models"],
            "over several nodes all GPUs must be used",
        ),
        (
            ["engine.nodes=2", "engine.pipelineParallelSize=2"],
            "name a ReadWriteMany claim in engine.cache.existingClaim",
        ),
        (
            ["preset=", "engine.model=a/b", "engine.tensorParallelSize=2"],
            "set engine.attentionHeads too",
        ),
        (["engine.enabled=false"], "engine.url must name an engine that runs elsewhere"),
        (["engine.url=http://there:8000"], "engine.enabled must be false"),
        (["engine.replicas=2", "router.enabled=false"], "router.enabled must not be false"),
        (["redis.external.urlSecret=redis"], "exclude each other: choose one Redis"),
        (["redis.bundled.enabled=false"], "several gateways need one Redis"),
        (
            ["redis.bundled.enabled=false", "gateway.replicas=1", "flywheel.export.enabled=true"],
            "the flywheel reads the journal in Redis",
        ),
        (
            ["gateway.autoscaling.enabled=true", "gateway.autoscaling.minReplicas=9"],
            "minReplicas 9 exceeds maxReplicas 8",
        ),
        (["flywheel.training.enabled=true"], "needs flywheel.training.command"),
        (["rewardModels.safety.enabled=true"], "rewardModels.safety.enabled needs both model and"),
        (
            ["gateway.settings.server.drain_s=5"],
            "is set by the chart: use gateway.drain.longestStreamSeconds",
        ),
        (
            ["gateway.settings.engine.url=http://x"],
            "gateway.settings.engine.url is set by the chart",
        ),
        (
            ["gateway.settings.redis_url=redis://x"],
            "gateway.settings.redis_url is set by the chart",
        ),
        (["gateway.settings.engine.api_key=x"], "is a secret: give it by gateway.env"),
        (["gateway.settings.tracing.headers.authorization=x"], "tracing.headers is a secret"),
    ],
)
def test_impossible_values_fail_with_the_reason(values: list[str], reason: str) -> None:
    assert reason in refusal(*values)


def test_null_takes_the_presets_value_back() -> None:
    changed = render(CHART / "ci/cluster-13b.yaml", "engine.tensorParallelSize=null")
    assert changed == render(CHART / "ci/cluster-13b.yaml")
