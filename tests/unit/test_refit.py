"""A head fitted anew: what it learns, what holds it back, and that it is the one that serves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flywheel.training.batches import windower
from flywheel.training.export import SHIPPED
from flywheel.training.labelled import Labelled
from flywheel.training.refit import Head, best, fit, labelled, reader
from guard.hazards import Hazard
from guard.reward.embedded import EmbeddedRewardModel
from guard.reward.labels import HAZARDS, KINDS
from guard.text import Windower
from guard.types import Message, RefusalKind, Sample
from tests.built import BUILT

SAFETY = BUILT / "safety"
FEATURES = torch.tensor([[1.0, 0.0], [2.0, 1.0], [-1.0, 0.0], [-2.0, 1.0]], dtype=torch.double)
LABELS = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.double)
START = Head(torch.zeros(1, 2, dtype=torch.double), torch.zeros(1, dtype=torch.double))


def loss(logits: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits[:, 0], LABELS)


def test_a_fitted_head_separates_what_its_features_separate() -> None:
    head = fit(FEATURES, loss, START, pull=0.001)
    assert ((head(FEATURES)[:, 0] > 0) == (LABELS > 0.5)).all()
    assert abs(float(head.weight[0, 1])) < 0.1, "the second feature says nothing"


def test_the_pull_holds_the_head_near_where_it_was() -> None:
    steps = [float((fit(FEATURES, loss, START, pull).weight ** 2).sum()) for pull in (10, 1, 0.1)]
    assert steps == sorted(steps)
    assert steps[0] < 0.01


@pytest.mark.parametrize(
    ("head", "columns"),
    [("answers", range(len(KINDS))), ("hazards", range(len(KINDS), len(KINDS) + len(HAZARDS)))],
)
def test_one_head_of_a_classifier_is_fitted_and_the_other_left(head: str, columns: range) -> None:
    sample = Sample((Message("user", "How?"),), "No.", whole=True)
    examples = [
        Labelled(sample, "x", kind=RefusalKind.FULL),
        Labelled(sample, "x", hazard=Hazard.HATE),
    ]
    task = labelled(examples, head, windower())
    logits = torch.zeros(1, len(KINDS) + len(HAZARDS), dtype=torch.double, requires_grad=True)
    task.loss(logits).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    moved = logits.grad[0].nonzero().squeeze(1).tolist()
    assert len(task.windows) == 1
    assert moved == list(columns)


def test_the_pull_is_chosen_by_the_loss_on_held_out_examples() -> None:
    def other_way(logits: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits[:, 0], 1 - LABELS)

    features = {"train": FEATURES, "dev": FEATURES}
    trusted, untrusted = best(features, loss, loss, START), best(features, loss, other_way, START)
    assert trusted[1] < untrusted[1]


@pytest.mark.skipif(not (SAFETY / "model.json").is_file(), reason="needs `make guard`")
def test_the_features_under_the_head_are_those_of_the_served_graph(tmp_path: Path) -> None:
    tensors = load_file(SHIPPED / "safety" / "adapter.safetensors")
    head = Head(tensors["head.weight"].double(), tensors["head.bias"].double())
    sample = Sample((Message("user", "How do I bake bread?"),))
    windows = Windower(Tokenizer.from_file(str(SAFETY / "tokenizer.json"))).windows(sample)
    logits = head(reader(SAFETY, 1)(windows, tmp_path / "features.npy"))
    [score] = EmbeddedRewardModel(SAFETY).score([sample])
    assert float(logits[0, 0]) == pytest.approx(score.reward, abs=1e-3)
