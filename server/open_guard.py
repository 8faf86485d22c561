"""Opens the guard that the settings describe: models, who is asked, and circuit breakers."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import structlog

from guard.gate import Schedule
from guard.guard import Guard, Scorer
from guard.reward.batcher import Batcher
from guard.reward.breaker import Breaker, State
from guard.reward.constant import ConstantRewardModel
from guard.reward.load import load_classifier
from guard.reward.load import load_reward_model as load_embedded
from guard.reward.remote import RemoteScorer
from guard.reward.router import Router
from guard.reward.spec import load_spec
from guard.types import Axis, Classifier, GuardBroken, RewardModel, Stage
from server.metrics.guard import GuardMetrics
from server.settings import GuardSettings, JudgeSettings, OnFailure, ScorerKind

log = structlog.get_logger(__name__)
_PATIENCE_S = 120.0
# A judge on vLLM caches prefixes: it is cheapest when each excerpt begins where the reply does.
_WHOLE_REPLY = Schedule(window=10**7)


class GuardParts:
    """The guard, the circuits before its judges, and the embedded models behind them."""

    def __init__(
        self, guard: Guard, breakers: tuple[Breaker, ...] = (), batcher: Batcher | None = None
    ) -> None:
        self.guard = guard
        self._breakers = breakers
        self._batcher = batcher

    @property
    def embedded(self) -> bool:
        """Whether there are embedded models that may be replaced."""
        return self._batcher is not None

    def replace(self, axis: Axis, model: RewardModel) -> None:
        """Put another embedded model in place of an axis' one, under its own name and version."""
        assert self._batcher is not None, "only where `embedded`"
        before = self._batcher.models[axis].model_id
        self._batcher.replace(model)
        # Where a judge elsewhere has a part, or all, of the axis, its name stays.
        self.guard.models[axis] = self.guard.models[axis].replace(before, model.model_id)

    @property
    def circuits(self) -> Mapping[str, State]:
        """State by circuit."""
        return {name: state for b in self._breakers for name, state in b.states.items()}


async def open_guard(
    settings: GuardSettings, streams: int, metrics: GuardMetrics, stack: AsyncExitStack
) -> GuardParts:
    """Load and test every model. Raises GuardBroken when one is missing or not what it should be.

    The embedded models judge whatever no judge elsewhere is named for. streams: how many may be
    open at a time.
    """
    waiting = settings.waiting(streams)
    models = {axis: load_reward_model(settings, axis) for axis in Axis}
    classifier = _classifier(settings)
    batcher = Batcher(
        models,
        classifier,
        timeout_s=settings.timeout_s,
        max_waiting=waiting,
        observe=metrics.batch,
        observe_labels=metrics.labels,
    )
    await stack.enter_async_context(batcher)
    local = _breaker(settings, metrics, batcher, "embedded", batcher if classifier else None)
    names = {axis: model.model_id for axis, model in models.items()}
    breakers, routes = [local], dict[tuple[Axis, Stage], Scorer]()
    for axis, judge in ((Axis.SAFETY, settings.safety), (Axis.HELPFULNESS, settings.helpfulness)):
        if judge is None:
            continue
        remote = await _open_remote(axis, judge, settings, waiting, metrics, stack)
        breaker = _breaker(settings, metrics, remote, "vllm")
        breakers.append(breaker)
        routes |= {(axis, stage): breaker for stage in remote.stages}
        whole = Stage.PROMPT in remote.stages or axis is Axis.HELPFULNESS
        names[axis] = remote.model_id if whole else f"{names[axis]}+{remote.model_id}"
    guard = Guard(
        scorer=Router(local, routes) if routes else local,
        labeller=local if classifier else None,
        policy=settings.policy(),
        schedule=_WHOLE_REPLY if (Axis.SAFETY, Stage.RESPONSE) in routes else Schedule(),
        fail_open=settings.on_failure is OnFailure.OPEN,
        models=names,
    )
    return GuardParts(guard, tuple(breakers), batcher)


def load_reward_model(settings: GuardSettings, axis: Axis) -> RewardModel:
    """The embedded reward model of one axis, self-tested. Raises GuardBroken."""
    if settings.scorer is ScorerKind.CONSTANT:
        log.warning("guard_judges_nothing", axis=axis.value)
        return ConstantRewardModel(axis)
    return load_embedded(settings.models, axis, settings.threads)


def _classifier(settings: GuardSettings) -> Classifier | None:
    if settings.scorer is ScorerKind.CONSTANT:
        return None
    return load_classifier(settings.models, settings.threads)


async def _open_remote(
    axis: Axis,
    judge: JudgeSettings,
    settings: GuardSettings,
    waiting: int,
    metrics: GuardMetrics,
    stack: AsyncExitStack,
) -> RemoteScorer:
    spec = load_spec(judge.spec)
    if spec.axis is not axis:
        raise GuardBroken(f"guard.{axis}: the spec {judge.spec} is of a {spec.axis} model")
    remote = RemoteScorer(
        judge.url,
        spec,
        model=judge.model,
        api_key=judge.api_key.get_secret_value() if judge.api_key else None,
        timeout_s=settings.timeout_s,
        max_waiting=waiting,
        observe=metrics.batch,
    )
    await stack.enter_async_context(remote)
    await remote.first_up(_PATIENCE_S)
    await remote.self_test()
    return remote


def _breaker(
    settings: GuardSettings,
    metrics: GuardMetrics,
    scorer: Scorer,
    name: str,
    labeller: Batcher | None = None,
) -> Breaker:
    return Breaker(
        scorer,
        labeller,
        name=name,
        failures=settings.breaker.failures,
        open_s=settings.breaker.open_s,
        changed=metrics.circuit,
    )
