"""Fits a model's linear head anew: python -m flywheel.training.refit --model DIR --out DIR

For new examples where there is no time to train the body. It takes one pass of the 8-bit graph
that serves over each example, then seconds: the head's features are kept, and a convex loss is
minimised that pulls the head towards the one it had. How strongly it pulls is chosen on `dev`.
At the end the model is calibrated as after any training.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from rich.progress import track
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from flywheel.training.calibrate import MIXES, calibrate
from flywheel.training.data import Mixture
from flywheel.training.export import export
from flywheel.training.labelled import Labelled, labelled_hazards, labelled_replies
from flywheel.training.labels import fit_temperatures
from flywheel.training.labels_mix import labels_mix
from flywheel.training.losses import auxiliary_loss, ranking_loss, weighted_mean
from flywheel.training.network import write_adapter, write_card
from flywheel.training.reward import thinned
from flywheel.training.teacher import softened
from guard.reward import labels as classifier
from guard.reward.embedded import inputs
from guard.text import Window, Windower
from guard.types import Axis

SAVE_EVERY = 1000
PULLS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Task:
    """Windows, and the loss of the head's logits on them: (windows, outputs) to a scalar."""

    windows: list[Window]
    loss: Loss


@dataclass(frozen=True, slots=True)
class Head:
    """weight: (outputs, features), bias: (outputs,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder to start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--replies", type=Path, help="sampled replies, see replies.py")
    parser.add_argument("--teacher", type=Path, help="what the judges think, see teacher.py")
    parser.add_argument("--thin", type=float, default=1.0, help="share kept of others' examples")
    parser.add_argument(
        "--head", choices=["answers", "hazards"], default="answers", help="of a classifier's two"
    )
    parser.add_argument("--leave-out", nargs="*", default=[], help="sources to fit without")
    parser.add_argument("--version", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    card = json.loads((options.model / "model.json").read_text(encoding="utf-8"))
    tensors = load_file(options.model / "adapter.safetensors")
    start = Head(tensors["head.weight"].double(), tensors["head.bias"].double())

    with tempfile.TemporaryDirectory() as folder:
        export(options.model, Path(folder))
        render = Windower(Tokenizer.from_file(f"{folder}/tokenizer.json"))
        read = reader(Path(folder), options.threads)
    train, dev = (tasks(card, options, split, render) for split in ("train", "dev"))
    options.out.mkdir(parents=True, exist_ok=True)
    features = {
        name: read(task.windows, options.out / f"{name}.npy")
        for name, task in (("train", train), ("dev", dev))
    }
    head, pull = best(features, train.loss, dev.loss, start)
    before, after = (float(dev.loss(h(features["dev"]))) for h in (start, head))
    print(f"pull {pull}: loss on dev {before:.4f} before, {after:.4f} after")

    tensors |= {"head.weight": head.weight, "head.bias": head.bias}
    write_adapter(options.out / "adapter.safetensors", tensors)
    write_card(options.out, card | {"version": options.version})
    if "refusal" in card:
        fit_temperatures(options.out, options.data)
    else:
        held_out = MIXES[Axis(card["axis"])](options.data, "dev", options.seed, options.replies)
        calibrate(options.out, held_out, options.threads)


def tasks(
    card: dict[str, object], options: argparse.Namespace, split: str, render: Windower
) -> Task:
    """What the model of this card is fitted to, by its axis; a classifier has none."""
    chance = random.Random(options.seed)
    if "refusal" in card:
        known = labels_mix(options.data, options.seed, options.thin)
        if split == "dev":
            known = [*labelled_replies(options.data, "dev"), *labelled_hazards(options.data, "dev")]
        kept = [e for e in known if e.source not in options.leave_out]
        return labelled(kept, options.head, render)
    axis = Axis(str(card["axis"]))
    mix = MIXES[axis](options.data, split, options.seed, options.replies)
    examples = [e for e in mix.examples if e.source not in options.leave_out]
    pairs = [p for p in mix.pairs if p.source not in options.leave_out]
    if axis is Axis.HELPFULNESS:  # its examples are the replies of its pairs
        return ranked(Mixture([], pairs), render)
    examples = thinned(examples, options.thin, chance, None)
    if options.teacher and split == "train":
        examples = softened(examples, options.teacher)
    return judged(Mixture(examples, []), render)


def judged(mix: Mixture, render: Windower) -> Task:
    """Labelled samples: the auxiliary loss of each one's stage."""
    stage = torch.tensor([e.sample.reply is not None for e in mix.examples], dtype=torch.long)
    good = torch.tensor([e.good for e in mix.examples], dtype=torch.double)
    weight = torch.tensor([e.weight for e in mix.examples], dtype=torch.double)

    def loss(logits: Tensor) -> Tensor:
        reward = logits.gather(1, stage[:, None]).squeeze(1)
        return weighted_mean(auxiliary_loss(reward, good), weight)

    return Task([render.windows(e.sample)[0] for e in mix.examples], loss)


def ranked(mix: Mixture, render: Windower) -> Task:
    """Pairs: the ranking loss, and a little of the auxiliary one, as in reward.py."""
    sides = [p.chosen for p in mix.pairs] + [p.rejected for p in mix.pairs]
    margin = torch.tensor([p.margin for p in mix.pairs], dtype=torch.double)
    auxiliary = torch.tensor([p.auxiliary for p in mix.pairs], dtype=torch.double)

    def loss(logits: Tensor) -> Tensor:
        chosen, rejected = logits[:, 1].chunk(2)
        labels = auxiliary_loss(chosen, torch.ones_like(chosen))
        labels = labels + auxiliary_loss(rejected, torch.zeros_like(rejected))
        return (ranking_loss(chosen, rejected, margin) + auxiliary * labels).mean()

    return Task([render.windows(s)[0] for s in sides], loss)


def labelled(examples: Sequence[Labelled], head: str, render: Windower) -> Task:
    """Texts by the label of one head: kind of answer, or hazard. The other stays as it is."""
    if head == "answers":
        kept = [(e, classifier.KINDS.index(e.kind)) for e in examples if e.kind is not None]
        columns = slice(0, len(classifier.KINDS))
    else:
        kept = [(e, classifier.HAZARDS.index(e.hazard)) for e in examples if e.hazard is not None]
        columns = slice(len(classifier.KINDS), None)
    right = torch.tensor([label for _, label in kept])
    weight = torch.tensor([e.weight for e, _ in kept], dtype=torch.double)

    def loss(logits: Tensor) -> Tensor:
        return weighted_mean(cross_entropy(logits[:, columns], right, reduction="none"), weight)

    return Task([classifier.window(render, e.sample) for e, _ in kept], loss)


def reader(folder: Path, threads: int) -> Callable[[Sequence[Window], Path], Tensor]:
    """From windows to what the head of an exported model sees: (windows, features).

    What it reads is kept in a file, so the same command goes on where it was broken off.
    """
    graph = onnx.load(str(folder / "model.onnx"))
    graph.graph.output.append(
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "width"])
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def read(windows: Sequence[Window], kept: Path) -> Tensor:
        known = list(np.load(kept)) if kept.is_file() else []
        rows: list[np.ndarray[Any, Any]] = known[: len(windows)]
        for window in track(windows[len(rows) :], f"reading {kept.stem}", update_period=5):
            rows.append(session.run(["features"], inputs(window))[0][0])
            if len(rows) % SAVE_EVERY == 0:
                np.save(kept, np.stack(rows))
        np.save(kept, np.stack(rows))
        return torch.from_numpy(np.stack(rows)).double()

    return read


def best(features: dict[str, Tensor], train: Loss, dev: Loss, start: Head) -> tuple[Head, float]:
    """The head of least loss on `dev` among those that are pulled back more and less."""
    found = [(fit(features["train"], train, start, pull), pull) for pull in PULLS]
    return min(found, key=lambda pair: float(dev(pair[0](features["dev"]))))


def fit(features: Tensor, loss: Loss, start: Head, pull: float) -> Head:
    """Minimises loss + pull / 2 * |head - start|^2, by L-BFGS."""
    weight, bias = (t.clone().requires_grad_() for t in (start.weight, start.bias))
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        far = ((weight - start.weight) ** 2).sum() + ((bias - start.bias) ** 2).sum()
        total = loss(Head(weight, bias)(features)) + pull / 2 * far
        total.backward()  # type: ignore[no-untyped-call]
        return total

    solver.step(closure)  # type: ignore[no-untyped-call]
    return Head(weight.detach(), bias.detach())


if __name__ == "__main__":
    main()
