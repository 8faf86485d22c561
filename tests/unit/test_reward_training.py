"""The mathematics of reward model training, against values worked out by hand."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.training.batches import by_length, padded, windower
from flywheel.training.data import prefix, rows, unsafe_from
from flywheel.training.export import export
from flywheel.training.loop import cosine
from flywheel.training.losses import auxiliary_loss, ranking_loss, weighted_mean
from flywheel.training.network import LoraSettings, RewardNetwork, pool
from flywheel.training.wording import refusal, sounds_like_refusal
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Message, Sample


def test_ranking_loss_without_margin() -> None:
    loss = ranking_loss(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-2)), math.log(2)])


def test_a_margin_asks_for_a_wider_gap() -> None:
    loss = ranking_loss(torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_auxiliary_loss_pushes_good_up_and_bad_down() -> None:
    loss = auxiliary_loss(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(1 + math.e)])


def test_auxiliary_loss_of_a_soft_label_lies_between() -> None:
    loss = auxiliary_loss(torch.tensor([0.0]), torch.tensor([0.3]))
    assert loss.item() == pytest.approx(math.log(2))


def test_a_small_weight_makes_a_small_loss() -> None:
    assert weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 0.5])).item() == 1.25


@pytest.mark.parametrize(("done", "rate"), [(0.025, 0.5), (0.05, 1.0), (0.525, 0.55), (1.0, 0.1)])
def test_the_schedule_warms_up_and_falls_to_a_tenth(done: float, rate: float) -> None:
    assert cosine(done) == pytest.approx(rate)


def test_pooling_reads_the_reply_where_there_is_one() -> None:
    states = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]] * 2)
    segments = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert pool(states, segments, mask).tolist() == [[1.0, 6.0], [1.0, pytest.approx(7 / 3)]]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.booleans())
def test_batches_hold_every_item_once_within_their_budget(
    lengths: list[int], shuffle: bool
) -> None:
    chance = random.Random(0) if shuffle else None
    batches = list(by_length(lengths, lambda n: n, 100, chance))
    assert sorted(n for batch in batches for n in batch) == sorted(lengths)
    assert all(max(batch) * len(batch) <= 100 for batch in batches)


@given(st.text("ab \n", min_size=1, max_size=400), st.integers(0, 9))
def test_an_unfinished_reply_ends_with_a_word(text: str, seed: int) -> None:
    part = prefix(text, random.Random(seed))
    assert text.startswith(part)
    assert part == text or text[len(part)].isspace()


def test_an_unsafe_reply_is_cut_only_after_its_substance() -> None:
    assert [unsafe_from("x" * n) for n in (10, 100, 1000)] == [10, 40, 250]


def test_refusals_sound_like_refusals() -> None:
    chance = random.Random(5)
    texts = [refusal(chance) for _ in range(300)]
    assert len(set(texts)) > 200
    missed = [t for t in texts if not sounds_like_refusal(t)]
    assert len(missed) < 60  # the rule is for labelling, and cautious texts are left out
    assert not sounds_like_refusal("Mix flour and water, then bake for an hour.")


def test_rows_are_split_at_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"t": "a\u2028b", "split": "train"}\n{"t": "c", "split": "dev"}\n')
    assert [row["t"] for row in rows(path, "train")] == ["a\u2028b"]


@pytest.fixture(scope="module")
def network() -> RewardNetwork:
    torch.manual_seed(0)
    return RewardNetwork.for_training(LoraSettings(rank=4, alpha=8))


SAMPLES = [
    Sample((Message("user", "How are you?"),)),
    Sample((Message("user", "Name three colours."),), "Red, green and blue."),
    Sample((Message("user", "Why is the sky blue? " * 20),), "Light scatters. " * 20, whole=True),
]


def rewards(network: RewardNetwork) -> np.ndarray[Any, Any]:
    """The logit of each of SAMPLES at its own stage."""
    network.eval()
    windows = [windower().windows(s)[0] for s in SAMPLES]
    with torch.inference_mode():
        logits = network(*padded(windows)).numpy()
    return np.array([logits[i, int(s.reply is not None)] for i, s in enumerate(SAMPLES)])


def test_a_fresh_adapter_changes_nothing(network: RewardNetwork) -> None:
    before = rewards(network)
    with torch.no_grad():
        bare = network.body.disable_adapter()  # type: ignore[operator]
        with bare:
            assert rewards(network) == pytest.approx(before, abs=1e-5)


def test_padding_does_not_reach_the_logits(network: RewardNetwork) -> None:
    render = windower()
    windows = [render.windows(s)[0] for s in SAMPLES]
    network.eval()
    with torch.inference_mode():
        together = network(*padded(windows))
        alone = torch.cat([network(*padded([w])) for w in windows])
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-4)


def test_training_lowers_the_loss_and_leaves_the_body_alone() -> None:
    torch.manual_seed(0)
    network = RewardNetwork.for_training(LoraSettings(rank=4, alpha=8))
    render = windower()
    frozen = {n: p.clone() for n, p in network.named_parameters() if not p.requires_grad}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    inputs = padded([render.windows(s)[0] for s in SAMPLES[1:]])
    losses = []
    for _ in range(8):
        chosen, rejected = network(*inputs)[:, 1]
        loss = ranking_loss(chosen, rejected, 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    assert all(torch.equal(p, frozen[n]) for n, p in network.named_parameters() if n in frozen)


def test_saving_and_loading_gives_the_same_rewards(network: RewardNetwork, tmp_path: Path) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    network.save(tmp_path / "adapter.safetensors")
    other = RewardNetwork.for_training(LoraSettings(rank=4, alpha=8))
    other.load(tmp_path / "adapter.safetensors")
    assert rewards(other) == pytest.approx(rewards(network), abs=0.02)


def test_the_exported_graph_computes_what_was_trained(
    network: RewardNetwork, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    network.save(model / "adapter.safetensors")
    line = {"slope": 1.0, "intercept": 0.0}
    lines = {"prompt": line, "response": line}
    network.describe(model, name="tiny", version="0", axis="safety", calibration=lines)
    export(model, tmp_path / "out")
    served = EmbeddedRewardModel(tmp_path / "out").score(SAMPLES)
    trained = rewards(network)
    assert np.array([s.reward for s in served]) == pytest.approx(np.array(trained), abs=0.1)
