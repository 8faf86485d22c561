"""A judge whose scores can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.training.chat.judge import Judge
from guard.hazards import Hazard
from guard.types import Axis, Labels, Sample, Score
from tests.fakes.scorer import judged_text


@dataclass
class SharedWords:
    """The value is that of the first word of `values` in the reply, else `otherwise`."""

    axis: Axis
    values: dict[str, float]
    otherwise: float = 0.5

    @property
    def model_id(self) -> str:
        return f"words-{self.axis}@1"

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(self.axis, self._value(judged_text(s)), 0.0, self.model_id) for s in samples]

    def _value(self, text: str) -> float:
        return next((v for word, v in self.values.items() if word in text), self.otherwise)


class OneHazard:
    model_id = "one-hazard@1"

    def label(self, samples: Sequence[Sample]) -> list[Labels]:
        return [Labels({Hazard.MALWARE: 1.0}, {}, self.model_id) for _ in samples]


def word_judge(safety: dict[str, float], helpfulness: dict[str, float]) -> Judge:
    return Judge(
        SharedWords(Axis.SAFETY, safety), SharedWords(Axis.HELPFULNESS, helpfulness), OneHazard()
    )
