"""Soft labels from a larger judge, for a smaller one to learn from.

    python -m flywheel.training.teacher --models DIR --sources anthropic-red-team --out FILE

While the larger judge trains, what it thinks of each example is written down at the moment
its turn comes, before it learns from it (`reward.py --note FILE`). That costs nothing, and is
an opinion formed on other examples: where a label is noisy, it says how far to believe it.
The command adds what the two exported judges think together of whole sources. Each line of
the file is {"key", "logit"}; the first line about a sample counts.

Hinton et al., "Distilling the knowledge in a neural network", 2015.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from flywheel.training.data import Example
from flywheel.training.safety_mix import safety_mix
from guard.reward.cascade import load_cascade
from guard.types import Sample

# How much of the target is the teacher's; labels by the place of finding count less.
SHARE = 0.3
NOISY_SHARE = {"anthropic-red-team": 0.6, "do-not-answer": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of the exported judges")
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    judges = load_cascade(options.models, options.threads)
    train = safety_mix(options.data, "train", options.seed)
    asked = [e for e in train.examples if e.source in options.sources]
    tracked = track(asked, "asking the judges", update_period=5)
    value = torch.tensor([judges.score([e.sample])[0].value for e in tracked])
    note(options.out, asked, value.logit(1e-4))


def key(sample: Sample) -> str:
    """The same for the same sample, in any run."""
    return hashlib.sha256(repr(sample).encode()).hexdigest()[:24]


def note(path: Path, examples: Sequence[Example], logits: Tensor) -> None:
    """Adds one line for each example; logits: shape (batch,)."""
    with path.open("a", encoding="utf-8") as file:
        for example, logit in zip(examples, logits.tolist(), strict=True):
            line = {"key": key(example.sample), "logit": round(logit, 3)}
            file.write(json.dumps(line) + "\n")


def softened(examples: Sequence[Example], path: Path) -> list[Example]:
    """The examples with the teacher's opinion mixed into the label, where it has one."""
    with path.open(encoding="utf-8") as file:
        opinions: dict[str, float] = {}
        for row in map(json.loads, file):
            opinions.setdefault(row["key"], row["logit"])
    found = []
    for example in examples:
        logit = opinions.get(key(example.sample))
        if logit is not None:
            share = NOISY_SHARE.get(example.source, SHARE)
            good = (1 - share) * example.good + share / (1 + math.exp(-logit))
            example = replace(example, good=good)
        found.append(example)
    return found


if __name__ == "__main__":
    main()
