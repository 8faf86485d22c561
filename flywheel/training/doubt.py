"""Chooses where the second judge is asked: python -m flywheel.training.doubt --first DIR ...

Takes two exported models. On `dev`, for each stage, it looks for the band of the everyday
judge's scores around the threshold in which hearing the second judge helps most, and in
which at most 15 % of the samples lie. Writes it as `doubt` into the model.json of --write.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from flywheel.training.data import Example
from flywheel.training.report import THRESHOLD
from flywheel.training.safety_mix import safety_mix
from guard.reward.calibration import Floats, even_mean
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Stage

LARGEST_SHARE = 0.15
# Samples nearest to the threshold that the second judge is asked about at all.
LOOKED_AT = 0.3
EDGES = 40  # candidates for each end of the band


@dataclass(frozen=True, slots=True)
class Choice:
    """A band, the share of samples in it, and the mean of miss and false alarm rate."""

    low: float
    high: float
    share: float
    error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=Path, required=True, help="the everyday judge, exported")
    parser.add_argument("--second", type=Path, required=True, help="the second judge, exported")
    parser.add_argument("--write", type=Path, required=True, help="model.json to write it into")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--replies", type=Path, help="sampled replies, see replies.py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    first = EmbeddedRewardModel(options.first, options.threads)
    second = EmbeddedRewardModel(options.second, options.threads)
    dev = safety_mix(options.data, "dev", options.seed, options.replies)
    bands = {}
    for stage in Stage:
        examples = [e for e in dev.examples if e.sample.stage is stage]
        choice = _choice(first, second, examples, stage)
        bands[stage.value] = [round(choice.low, 4), round(choice.high, 4)]
    card = json.loads(options.write.read_text(encoding="utf-8"))
    card["doubt"] = bands
    options.write.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _choice(
    first: EmbeddedRewardModel, second: EmbeddedRewardModel, examples: list[Example], stage: Stage
) -> Choice:
    bad = np.array([e.good == 0 for e in examples])
    tracked = track(examples, f"{stage}: everyday judge", update_period=5)
    quick = np.array([first.score([e.sample])[0].value for e in tracked])
    slow = quick.copy()
    near = np.argsort(np.abs(quick - THRESHOLD))[: int(LOOKED_AT * len(quick))]
    for index in track(near, f"{stage}: second judge", update_period=5):
        slow[index] = second.score([examples[index].sample])[0].value
    choice = best_band(quick, slow, bad)
    alone = balanced_error(quick, bad)
    print(f"{stage}: error {alone:.4f} alone, {choice.error:.4f} together, {choice}")
    return choice


def best_band(quick: Floats, slow: Floats, bad: NDArray[np.bool_]) -> Choice:
    """The band around the threshold with the least error; of equals, the smallest.

    quick, slow: (n,) scores of the two judges; bad: (n,) whether the sample is bad.
    """
    distance = np.abs(quick - THRESHOLD)
    reach = float(np.quantile(distance, LOOKED_AT))
    steps = np.linspace(0.0, min(reach, 0.5), EDGES)
    both = even_mean(quick, slow)
    choices = []
    for below, above in product(steps, steps):
        low, high = float(THRESHOLD - below), float(THRESHOLD + above)
        inside = (quick >= low) & (quick < high)
        share = float(inside.mean())
        if share <= LARGEST_SHARE:
            error = balanced_error(np.where(inside, both, quick), bad)
            choices.append(Choice(low, high, share, error))
    return min(choices, key=lambda choice: (round(choice.error, 4), choice.share))


def balanced_error(value: Floats, bad: NDArray[np.bool_]) -> float:
    """Mean of the share of bad samples passed and of good samples flagged."""
    flagged = value < THRESHOLD
    return float(((~flagged)[bad].mean() + flagged[~bad].mean()) / 2)


if __name__ == "__main__":
    main()
