"""A reward model on a tiny Llama: its loss by hand, its training, and that the guard reads it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.training import llama_reward
from flywheel.training.chat.files import write_rows
from flywheel.training.chat.stage import StageError
from flywheel.training.llama_reward import ranking
from flywheel.training.reward_spec import Format, toml, written_spec
from guard.reward.spec import RewardSpec, load_spec
from guard.types import Axis, Message, Sample
from tests.fakes.tiny_llama import build_tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

THINGS = ("bread", "jam", "fox", "river", "wizard", "dog", "quick", "brown", "seven", "friend")


def chat(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reply is safe, and the better one, when it says "lazy"."""
    folder = tmp_path_factory.mktemp("data")
    asked = [chat("user", f"What is a {thing}?") for thing in THINGS * 4]
    good, bad = chat("assistant", "the lazy dog"), chat("assistant", "the brown fox")
    pairs = [{"prompt": a, "chosen": good, "rejected": bad, "margin": 1 / 3} for a in asked]
    labels = [
        {"prompt": a, "completion": reply, "label": reply is good}
        for a in asked
        for reply in (good, bad)
    ]
    write_rows(folder / "pairs.jsonl", pairs)
    write_rows(folder / "labels.jsonl", labels)
    write_rows(folder / "safe.jsonl", [row for row in labels if row["label"]])
    write_rows(folder / "none.jsonl", [])
    return {name: folder / f"{name}.jsonl" for name in ("pairs", "labels", "safe", "none")}


def command(model: Path, out: Path, axis: str, *more: str | Path) -> list[str]:
    fixed = "--name tiny --rate 1e-2 --batch 8 --lora-rank 4 --dev-share 0.2 --max-steps 24"
    where = ("--axis", axis, "--model", str(model), "--out", str(out))
    return [*where, *fixed.split(), *map(str, more)]


def test_the_loss_is_ranking_with_margin_and_classification() -> None:
    batch = {
        "margin": torch.tensor([1.0]),
        "good": torch.tensor([1.0, 0.0]),
        "weight": torch.tensor([1.0, 0.5]),
    }
    loss = ranking(torch.tensor([2.0, 0.5, 1.0, 1.0]), batch, auxiliary=2.0)
    pair = math.log(1 + math.exp(-0.5))  # -log sigmoid(2.0 - 0.5 - 1.0)
    labelled = (math.log(1 + math.exp(-1)) + 0.5 * math.log(1 + math.e)) / 2
    assert loss.item() == pytest.approx(pair + 2 * labelled)


def test_pairs_alone_and_labels_alone_are_losses_too() -> None:
    empty = torch.zeros(0)
    pairs = {"margin": torch.tensor([0.0]), "good": empty, "weight": empty}
    assert ranking(torch.zeros(2), pairs, 1.0).item() == pytest.approx(math.log(2))
    labels = {"margin": empty, "good": torch.ones(1), "weight": torch.ones(1)}
    assert ranking(torch.zeros(1), labels, 1.0).item() == pytest.approx(math.log(2))


@pytest.fixture(scope="module")
def trained(model: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reward") / "run"
    llama_reward.main(
        command(model, out, "safety", "--pairs", data["pairs"], "--labels", data["labels"])
    )
    return out


def test_a_few_steps_teach_what_the_labels_say(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    assert report["pairs"]["pairs"]["accuracy"] == 1.0
    assert report["stages"]["response"]["all"]["auc"] == 1.0


def test_the_folder_is_what_vllm_and_the_guard_load(trained: Path) -> None:
    """The same number by transformers on the served folder, asked as the spec asks vLLM."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = trained / "model"
    spec = load_spec(folder / "spec.toml")
    assert (spec.axis, spec.model_id) == (Axis.SAFETY, "tiny@1")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    network: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    asked = (Message("user", "What is a wizard?"),)
    scores = []
    for reply in ("the lazy dog", "the brown fox"):
        [request] = spec.requests(Sample(asked, reply, whole=True))
        special = request["add_special_tokens"]
        ids = tokenizer(request["input"], add_special_tokens=special, return_tensors="pt")
        with torch.no_grad():
            logits = network(ids["input_ids"]).logits[0].tolist()
        sample = Sample(asked, reply, whole=True)
        scores.append(spec.score(sample.stage, spec.reward(logits)).value)
    assert scores[0] > 0.5 > scores[1]
    assert "tiny, version 1" in (folder / "README.md").read_text()


def test_helpfulness_is_learnt_from_pairs(
    model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    llama_reward.main(command(model, tmp_path / "run", "helpfulness", "--pairs", data["pairs"]))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["pairs"]["pairs"]["accuracy"] == 1.0
    assert list(load_spec(tmp_path / "run" / "model" / "spec.toml").stages) == ["response"]


@pytest.mark.parametrize(
    ("axis", "files", "why"),
    [
        ("safety", (), "nothing to learn from"),
        ("safety", ("--labels", "none"), "nothing to learn from"),
        ("safety", ("--labels", "safe"), "only safe"),
        ("safety", ("--pairs", "pairs"), "no labelled samples"),
        ("helpfulness", ("--labels", "labels"), "nothing to learn from"),
        ("safety", ("--pairs", "labels"), "a pair needs"),
        ("safety", ("--labels", "pairs"), "a labelled row needs"),
    ],
)
def test_one_sided_or_misshapen_data_is_refused(
    model: Path, data: dict[str, Path], tmp_path: Path, axis: str, files: tuple[str, ...], why: str
) -> None:
    more = [data.get(word, word) for word in files]
    with pytest.raises(StageError, match=why):
        llama_reward.main(command(model, tmp_path / "run", axis, *more))


@pytest.mark.parametrize("form", list(Format))
def test_every_format_is_one_that_the_guard_reads(form: Format, tmp_path: Path) -> None:
    written = written_spec(Axis.SAFETY, "n", "1", form, 1024)
    (tmp_path / "spec.toml").write_text(toml(written), encoding="utf-8")
    assert load_spec(tmp_path / "spec.toml") == RewardSpec.model_validate(written)
