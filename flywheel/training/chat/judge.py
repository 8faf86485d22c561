"""What a reply is worth to training: the guard's scores, combined as in Llama 2 (§3.2.3)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import Field

from flywheel.training.chat.files import Messages
from flywheel.training.chat.stage import Settings, StageError
from guard.combined import combined_reward
from guard.hazards import Hazard
from guard.reward.load import load_classifier, load_reward_model
from guard.types import Axis, Classifier, GuardBroken, Message, RewardModel, Sample


class JudgeSettings(Settings):
    guard: Path = Field(Path(".cache/guard"), description="folder of the exported reward models")
    threads: int = Field(2, ge=1, description="threads of the reward models")


@dataclass(frozen=True, slots=True)
class Worth:
    """Calibrated scores in [0, 1]; reward is one of the two, by `combined_reward`."""

    safety: float
    helpfulness: float
    reward: float

    def row(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Judge:
    """The shipped reward models, in this process. Pure and blocking."""

    def __init__(
        self, safety: RewardModel, helpfulness: RewardModel, classifier: Classifier
    ) -> None:
        self._safety, self._helpfulness, self._classifier = safety, helpfulness, classifier

    @classmethod
    def load(cls, settings: JudgeSettings) -> Self:
        """Raises StageError where a model is missing or fails its self-test."""
        try:
            safety, helpfulness = (
                load_reward_model(settings.guard, axis, settings.threads) for axis in Axis
            )
            classifier = load_classifier(settings.guard, settings.threads)
        except GuardBroken as error:
            raise StageError(str(error)) from error
        return cls(safety, helpfulness, classifier)

    @property
    def models(self) -> list[str]:
        return [self._safety.model_id, self._helpfulness.model_id]

    def worth(self, messages: Messages, reply: str, *, adversarial: bool) -> Worth:
        conversation = tuple(Message(m["role"], m["content"]) for m in messages)
        [safety] = self._safety.score([Sample(conversation, reply)])
        [helpfulness] = self._helpfulness.score([Sample(conversation, reply, whole=True)])
        reward = combined_reward(safety.value, helpfulness.value, adversarial=adversarial)
        return Worth(safety.value, helpfulness.value, reward)

    def hazard(self, messages: Messages) -> Hazard:
        """The likeliest hazard of an adversarial prompt."""
        conversation = tuple(Message(m["role"], m["content"]) for m in messages)
        return self._classifier.label([Sample(conversation)])[0].hazard

    def refuses(self, messages: Messages, reply: str) -> bool:
        """Whether the reply declines the request, or a part of it."""
        conversation = tuple(Message(m["role"], m["content"]) for m in messages)
        [labels] = self._classifier.label([Sample(conversation, reply, whole=True)])
        return labels.refusal is not None and labels.refusal.refuses
