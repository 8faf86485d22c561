"""Two safety judges, a quick one for every sample and a slow one for those in doubt.

The everyday judge scores each sample. Where its calibrated score lies in a band around the
threshold, chosen on `dev` and kept in its model.json as `doubt`, the second judge is asked
too and both are heard alike: the log odds of their probabilities are averaged. On `dev` that
ranks better than the second judge's word alone. `Score.model` names who answered. Whether a
sample is in doubt depends on the sample alone, so a cascade is as deterministic as its judges.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guard.reward.calibration import even_mean
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Axis, GuardBroken, Sample, Score, Stage, finished

FIRST, SECOND = "safety", "safety_judge"
_EVEN = 0.5  # calibrated: below it a judge finds a sample rather unsafe


@dataclass(frozen=True, slots=True)
class Band:
    """Scores from `low` to below `high`, both in [0, 1], are in doubt."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"a band of doubt lies in [0, 1] and does not end before it: {self}")

    def __contains__(self, value: float) -> bool:
        return self.low <= value < self.high


@dataclass(frozen=True, slots=True)
class Cascade:
    """A reward model of two. Safe to call from several threads if both judges are.

    doubt: the band of each stage; a stage without one is never asked of the second judge.
    """

    first: EmbeddedRewardModel
    second: EmbeddedRewardModel
    doubt: Mapping[Stage, Band]

    @property
    def axis(self) -> Axis:
        return self.first.axis

    @property
    def model_id(self) -> str:
        return f"{self.first.model_id}+{self.second.model_id}"

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score a sample, in order, of the judge or the judges that decided it."""
        return [finished(self.steps(sample)) for sample in samples]

    def steps(self, sample: Sample) -> Generator[None, None, Score]:
        """The same for one sample, with a pause between windows and between judges."""
        score = yield from self.first.steps(sample)
        band = self.doubt.get(sample.stage)
        if band is None or score.value not in band:
            return score
        yield
        answer = yield from self.second.steps(sample)
        return Score(
            score.axis,
            float(even_mean(score.value, answer.value)),
            (score.reward + answer.reward) / 2,
            self.model_id,
            disputed=(score.value < _EVEN) != (answer.value < _EVEN),
        )


def load_cascade(models: Path, threads: int = 1) -> Cascade:
    """The cascade of the two safety judges that are exported in `models`.

    Raises GuardBroken, saying what to run, when one of them is not there, and ValueError
    when the everyday judge's model.json has no band of doubt.
    """
    try:
        first, second = (EmbeddedRewardModel(models / name, threads) for name in (FIRST, SECOND))
    except FileNotFoundError as error:
        raise GuardBroken(f"{error}; run `make guard` to build the shipped models") from error
    return Cascade(first, second, read_doubt(models / FIRST / "model.json"))


def read_doubt(path: Path) -> dict[Stage, Band]:
    """The bands that a model.json names. Raises ValueError when it names none."""
    bands = json.loads(path.read_text(encoding="utf-8")).get("doubt")
    if bands is None:
        raise ValueError(f"{path} names no band of doubt")
    return {Stage(stage): Band(float(low), float(high)) for stage, (low, high) in bands.items()}
