"""Trains the classifier of hazards and refusals: python -m flywheel.training.labels --out DIR

One encoder under LoRA carries two softmax heads, stacked into one linear layer: first
the kinds of answer, then the hazards. A batch teaches each head with the examples that have
its label. Made by itself and not from the reward models: what a text is about and how a
reply answers are other questions than how good it is, and mistakes should be independent.

With `--judge` the body is the larger MPNet, which learns the answers alone: it is heard beside
the small one where that is in doubt of a reply.

Steps, in order: mix the data, train, save the adapter, export it, fit one temperature for
each head on the exported graph's answers to held-out examples, write model.json. A run that was
killed goes on when the same command is given again (see loop.py).
"""

import argparse
import json
import math
import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.training.batches import by_length, padded, windower
from flywheel.training.bodies import MINILM, MPNET, Body
from flywheel.training.chat.stage import run
from flywheel.training.export import export
from flywheel.training.labelled import Labelled, labelled_hazards, labelled_replies
from flywheel.training.labels_mix import labels_mix
from flywheel.training.loop import Loop, same_run
from flywheel.training.network import LoraSettings, RewardNetwork
from guard.reward.labels import HAZARDS, KINDS, EmbeddedClassifier, window

SETTINGS = LoraSettings(rank=16, alpha=32)
NAMES = {MINILM.name: "minilm-labels", MPNET.name: "mpnet-labels"}
JUDGE = LoraSettings(rank=16, alpha=32, first_layer=4)  # a third less to compute


class LabelNetwork(RewardNetwork):
    """Token windows in, one logit for each kind of answer and each hazard out."""

    def __init__(
        self, kind: Body, body: nn.Module, width: int, settings: LoraSettings, dropout: float = 0.1
    ) -> None:
        super().__init__(kind, body, width, settings, dropout)
        self.head = nn.Linear(2 * width, len(KINDS) + len(HAZARDS))
        nn.init.zeros_(self.head.bias)


def main() -> None:
    options = _options()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)

    body, settings = (MPNET, JUDGE) if options.judge else (MINILM, SETTINGS)
    examples = labels_mix(options.data, options.seed, options.thin, not options.judge)
    print(f"{len(examples)} examples to train on")
    render = windower(body)
    windows = {id(e): window(render, e.sample) for e in examples}
    network = LabelNetwork.for_training(settings, body)
    if options.start:
        network.load(options.start / "adapter.safetensors")
    plan = [
        batch
        for epoch in range(options.epochs)
        for batch in by_length(
            examples,
            lambda e: len(windows[id(e)]),
            options.batch_tokens,
            random.Random(options.seed + epoch),
        )
    ]

    def loss_of(batch: list[Labelled]) -> Tensor:
        return label_loss(network(*padded([windows[id(e)] for e in batch])).float(), batch)

    same = same_run(options, len(examples), len(plan))
    loop = Loop(options.rate, options.minutes, options.out / "training.state", same, options.bf16)
    loop.train(network, plan, loss_of, "training labels")

    options.out.mkdir(parents=True, exist_ok=True)
    network.save(options.out / "adapter.safetensors")
    describe(options.out, options.version, network, 1.0, 1.0)
    fit_temperatures(options.out, options.data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", action="store_true", help="the larger body, of answers alone")
    parser.add_argument("--start", type=Path, help="go on from this model's adapter")
    parser.add_argument(
        "--thin", type=float, default=1.0, help="share kept of replies not labelled by hand"
    )
    parser.add_argument("--version", default="1")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="mixed precision, if the CPU has it")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop training by then")
    return parser.parse_args()


def label_loss(logits: Tensor, batch: Sequence[Labelled]) -> Tensor:
    """Weighted mean of the cross-entropies of the labels that the examples have.

    logits: (batch, labels). Gives zero when no example has a label.
    """
    kinds, hazards = logits[:, : len(KINDS)], logits[:, len(KINDS) :]
    terms, weights = [], []
    for row, example in enumerate(batch):
        if example.kind is not None:
            terms.append(-kinds[row].log_softmax(0)[KINDS.index(example.kind)])
            weights.append(example.weight)
        if example.hazard is not None:
            terms.append(-hazards[row].log_softmax(0)[HAZARDS.index(example.hazard)])
            weights.append(example.weight)
    if not terms:
        return logits.sum() * 0.0
    return (torch.stack(terms) * torch.tensor(weights)).mean()


def fit_temperatures(out: Path, data: Path) -> None:
    """Fits the temperatures on held-out examples and writes them into model.json.

    What is fitted is the exported 8-bit graph, since that is what serves.
    """
    held_out = [*labelled_replies(data, "dev"), *labelled_hazards(data, "dev")]
    written = out / "model.json"
    card = json.loads(written.read_text(encoding="utf-8"))
    card["refusal"]["temperature"] = card["hazard"]["temperature"] = 1.0
    written.write_text(json.dumps(card), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        export(out, Path(folder))
        model = EmbeddedClassifier(Path(folder), torch.get_num_threads())
        answers = model.label([e.sample for e in held_out])
    pairs = list(zip(held_out, answers, strict=True))
    kinds = [
        (KINDS.index(e.kind), _odds(a.refusals.values())) for e, a in pairs if e.kind is not None
    ]
    hazards = [
        (HAZARDS.index(e.hazard), _odds(a.hazards.values()))
        for e, a in pairs
        if e.hazard is not None
    ]
    card["refusal"]["temperature"] = temperature(kinds)
    card["hazard"]["temperature"] = temperature(hazards)
    written.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def describe(out: Path, version: str, network: RewardNetwork, kinds: float, hazards: float) -> None:
    """Writes model.json; kinds, hazards: the temperatures of the two heads."""
    network.describe(
        out,
        name=NAMES[network.kind.name],
        version=version,
        refusal={"labels": list(KINDS), "temperature": kinds},
        hazard={"labels": list(HAZARDS), "temperature": hazards},
    )


def _odds(probabilities: Iterable[float]) -> NDArray[np.float64]:
    odds: NDArray[np.float64] = np.log(np.maximum(list(probabilities), 1e-12))
    return odds


def temperature(answers: Sequence[tuple[int, NDArray[np.float64]]]) -> float:
    """What to divide logits by so that the right labels become likeliest (Guo et al., 2017).

    answers: the right label's index and the log-probabilities of all. Searches 0.5 to 5.
    """

    def loss(t: float) -> float:
        scaled = [(right, odds / t) for right, odds in answers]
        return sum(float(np.logaddexp.reduce(s) - s[right]) for right, s in scaled)

    return float(min(np.geomspace(0.5, 5.0, 47), key=loss)) if answers else 1.0


if __name__ == "__main__":
    run(main)
