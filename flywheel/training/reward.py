"""Trains a reward model: python -m flywheel.training.reward --axis A --name N --out DIR

The recipe is Llama 2's (§3.2.2) at a small size: a ranking loss with margin on pairs, an
auxiliary classification loss on labelled samples, one or two epochs, cosine schedule. It
differs in that the body is an encoder under LoRA, and in that there is one logit for each
stage (see network.py).

Steps, in order: mix the data, train, save the adapter, calibrate it (see calibrate.py). A run
that was killed goes on when the same command is given again (see loop.py).
"""

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from flywheel.training.batches import by_length, padded, windower
from flywheel.training.bodies import MINILM, MPNET
from flywheel.training.calibrate import MIXES, calibrate
from flywheel.training.chat.stage import run
from flywheel.training.data import Example, Mixture, Pair
from flywheel.training.loop import Loop, same_run
from flywheel.training.losses import auxiliary_loss, ranking_loss, weighted_mean
from flywheel.training.network import LoraSettings, RewardNetwork
from flywheel.training.safety_mix import OWN
from flywheel.training.teacher import note, softened
from guard.reward.calibration import Calibration
from guard.reward.embedded import EmbeddedRewardModel
from guard.text import Windower
from guard.types import Axis

DOUBT = (0.08, 0.92)  # scores between these are in doubt
JUDGE = LoraSettings(rank=16, alpha=32, first_layer=6)


def main() -> None:
    options = _options()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)

    train, dev = _mixtures(options)
    print(f"{len(train.examples)} examples and {len(train.pairs)} pairs to train on")
    body, settings = (MPNET, JUDGE) if options.judge else (MINILM, LoraSettings())
    render = windower(body)
    network = RewardNetwork.for_training(settings, body)
    if options.start:
        network.load(options.start / "adapter.safetensors")
    plan = [
        step
        for epoch in range(options.epochs)
        for step in _plan(train, render, options.batch_tokens, options.seed + epoch)
    ]

    def loss_of(step: Step) -> Tensor:
        examples, pairs = step
        weight: float = options.pair_weight
        loss = _example_loss(network, render, examples, options.note)
        return loss + weight * _pair_loss(network, render, pairs)

    same = same_run(options, len(train.examples), len(train.pairs), len(plan))
    loop = Loop(options.rate, options.minutes, options.out / "training.state", same, options.bf16)
    loop.train(network, plan, loss_of, f"training {options.axis}")

    options.out.mkdir(parents=True, exist_ok=True)
    network.save(options.out / "adapter.safetensors")
    judged = list(dict.fromkeys(e.sample.stage for e in dev.examples))
    network.describe(
        options.out,
        name=options.name,
        version=options.version,
        axis=options.axis,
        calibration={part: asdict(Calibration()) for part in judged},
    )
    calibrate(options.out, dev, options.threads)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--axis", type=Axis, choices=list(Axis), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--replies", type=Path, help="sampled replies, see replies.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", action="store_true", help="the larger body, MPNet")
    parser.add_argument("--leave-out", nargs="*", default=[], help="sources to train without")
    parser.add_argument("--thin", type=float, default=1.0, help="share kept of others' examples")
    parser.add_argument("--doubted-by", type=Path, help="thin none that this exported model doubts")
    parser.add_argument("--note", type=Path, help="write down opinions for a smaller judge")
    parser.add_argument("--teacher", type=Path, help="what a larger judge wrote down")
    parser.add_argument("--start", type=Path, help="go on from this model's adapter")
    parser.add_argument("--name", required=True, help="goes into every score, with the version")
    parser.add_argument("--version", default="1")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=1536)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pair-weight", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="mixed precision, if the CPU has it")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop training by then")
    return parser.parse_args()


def _mixtures(options: argparse.Namespace) -> tuple[Mixture, Mixture]:
    """What is trained on, and what it is calibrated on."""
    mix = MIXES[options.axis]
    train = mix(options.data, "train", options.seed, options.replies)
    dev = mix(options.data, "dev", options.seed, options.replies)
    train = Mixture(
        [e for e in train.examples if e.source not in options.leave_out],
        [p for p in train.pairs if p.source not in options.leave_out],
    )
    if options.thin < 1:
        doubter = EmbeddedRewardModel(options.doubted_by) if options.doubted_by else None
        kept = thinned(train.examples, options.thin, random.Random(options.seed), doubter)
        train = Mixture(kept, train.pairs)
    if options.axis is Axis.HELPFULNESS:  # its examples are the replies of its pairs
        train = Mixture([], train.pairs)
    if options.teacher:
        train = Mixture(softened(train.examples, options.teacher), train.pairs)
    return train, dev


def thinned(
    examples: list[Example],
    share: float,
    chance: random.Random,
    doubter: EmbeddedRewardModel | None,
) -> list[Example]:
    """Our own examples, those in doubt, and a share of the others.

    A second judge is asked only where the first one is in doubt, so it has most to learn there.
    What the first one is wrongly sure of is not kept whole: it is often a wrong label.
    """

    def is_kept(example: Example) -> bool:
        if example.source in OWN or chance.random() < share:
            return True
        low, high = DOUBT
        return doubter is not None and low < doubter.score([example.sample])[0].value < high

    return [e for e in track(examples, "choosing examples", update_period=5) if is_kept(e)]


Step = tuple[list[Example], list[Pair]]


def _plan(mixture: Mixture, render: Windower, tokens: int, seed: int) -> Iterator[Step]:
    """One epoch: every example and every pair once, pairs spread evenly over the steps."""
    chance = random.Random(seed)

    def pair_length(pair: Pair) -> int:
        return 2 * max(len(render.windows(s)[0]) for s in (pair.chosen, pair.rejected))

    def example_length(example: Example) -> int:
        return len(render.windows(example.sample)[0])

    singles = list(by_length(mixture.examples, example_length, tokens, chance))
    doubles = list(by_length(mixture.pairs, pair_length, tokens, chance))
    if len(singles) < len(doubles):
        yield from ((list[Example](), pairs) for pairs in doubles)
        return
    steps = [(single, list[Pair]()) for single in singles]
    for index, pairs in enumerate(doubles):
        steps[index * len(steps) // len(doubles)][1].extend(pairs)
    yield from steps


def _example_loss(
    network: RewardNetwork, render: Windower, examples: list[Example], notes: Path | None
) -> Tensor:
    if not examples:
        return torch.zeros(())
    logits = network(*padded([render.windows(e.sample)[0] for e in examples])).float()
    stage = torch.tensor([e.sample.reply is not None for e in examples], dtype=torch.long)
    reward = logits.gather(1, stage[:, None]).squeeze(1)
    if notes:
        note(notes, examples, reward)
    good = torch.tensor([e.good for e in examples])
    return weighted_mean(auxiliary_loss(reward, good), torch.tensor([e.weight for e in examples]))


def _pair_loss(network: RewardNetwork, render: Windower, pairs: list[Pair]) -> Tensor:
    if not pairs:
        return torch.zeros(())
    sides = [p.chosen for p in pairs] + [p.rejected for p in pairs]
    logits = network(*padded([render.windows(s)[0] for s in sides])).float()
    chosen, rejected = logits[:, 1].chunk(2)
    margin = torch.tensor([p.margin for p in pairs])
    auxiliary = torch.tensor([p.auxiliary for p in pairs])
    labels = auxiliary_loss(chosen, torch.ones(len(pairs)))
    labels = labels + auxiliary_loss(rejected, torch.zeros(len(pairs)))
    return (ranking_loss(chosen, rejected, margin) + auxiliary * labels).mean()


if __name__ == "__main__":
    run(main)
