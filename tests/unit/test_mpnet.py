"""MPNet as a body, at a tiny size: the exported graph computes what torch computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import MPNetConfig, MPNetModel

from flywheel.training.batches import padded, windower
from flywheel.training.bodies import BODIES, MPNET, Body
from flywheel.training.export import export, export_all
from flywheel.training.graph import relative_bias
from flywheel.training.network import LoraSettings, RewardNetwork
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Message, Sample

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = [*SPECIAL, "how", "do", "I", "bake", "bread", "at", "home", "?"]
WORDS += ["red", "green", "and", "blue", "light"]
SETTINGS = LoraSettings(rank=4, alpha=8, first_layer=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Body]:
    """A body of MPNet's kind with two layers and random weights."""
    folder = tmp_path_factory.mktemp("mpnet")
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(WORDS),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
    )
    model: Any = MPNetModel(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at the start of a training
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))

    @contextmanager
    def files() -> Iterator[Path]:
        yield folder

    body = replace(MPNET, name="tiny-mpnet", files=files, layers=2, heads=4)
    BODIES[body.name] = body
    yield body
    del BODIES[body.name]


SAMPLES = [
    Sample((Message("user", "how do I bake bread ?"),)),
    Sample((Message("user", "red and blue ?"),), "green light"),
    Sample((Message("user", "bake bread at home " * 30),), "red green blue " * 60, whole=True),
]


def test_the_bias_by_distance_is_that_of_the_body(tiny: Body) -> None:
    with tiny.files() as folder:
        encoder: Any = MPNetModel.from_pretrained(folder, add_pooling_layer=False).encoder
    expected = encoder.compute_position_bias(torch.zeros(1, 512, 1))[0].detach().numpy()
    table = encoder.relative_attention_bias.weight.detach().numpy()
    places = np.arange(512)
    by_distance = relative_bias(table, 512)
    assert np.array_equal(by_distance[:, places[None] - places[:, None] + 511], expected)


def test_windows_have_the_special_tokens_of_the_body(tiny: Body) -> None:
    (window,) = windower(tiny).windows(SAMPLES[1])
    words = [WORDS[i] for i in window.ids]
    assert words == ["<s>", "red", "and", "blue", "?", "</s>", "green", "light", "</s>"]


def test_layers_below_the_first_adapted_one_are_left_alone(tiny: Body) -> None:
    network = RewardNetwork.for_training(SETTINGS, tiny)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name.split(".layer.")[1][0] for name in trained if ".layer." in name} == {"1"}
    assert {"head.weight", "head.bias"} <= trained


def test_the_exported_graph_computes_what_was_trained(tiny: Body, tmp_path: Path) -> None:
    network = RewardNetwork.for_training(SETTINGS, tiny)
    network.eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    model = tmp_path / "model"
    model.mkdir()
    network.save(model / "adapter.safetensors")
    line = {"slope": 1.0, "intercept": 0.0}
    lines = {"prompt": line, "response": line}
    network.describe(model, name="tiny", version="0", axis="safety", calibration=lines)
    export(model, tmp_path / "out")
    served = [s.reward for s in EmbeddedRewardModel(tmp_path / "out").score(SAMPLES)]
    render = windower(tiny)
    with torch.inference_mode():
        logits = network(*padded([render.windows(s)[0] for s in SAMPLES])).numpy()
    trained = [logits[i, int(s.reply is not None)] for i, s in enumerate(SAMPLES)]
    assert np.ptp(trained) > 0.2
    assert served == pytest.approx(trained, abs=0.05)


def test_the_body_is_fetched_once_for_all_models_and_not_when_they_are_there(
    tiny: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[Path] = []

    @contextmanager
    def files() -> Iterator[Path]:
        with tiny.files() as folder:
            lent.append(folder)
            yield folder

    monkeypatch.setitem(BODIES, tiny.name, replace(tiny, files=files))
    line = {"slope": 1.0, "intercept": 0.0}
    models = {tmp_path / name: tmp_path / "out" / name for name in ("one", "two")}
    for model in models:
        model.mkdir()
        network = RewardNetwork.for_training(SETTINGS, tiny)
        network.save(model / "adapter.safetensors")
        network.describe(
            model, name=model.name, version="0", axis="safety", calibration={"prompt": line}
        )
    export_all(models)
    export_all(models)
    assert len(lent) == 1
    assert [EmbeddedRewardModel(out).model_id for out in models.values()] == ["one@0", "two@0"]
