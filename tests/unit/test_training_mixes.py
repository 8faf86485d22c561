"""What the mixes make of labelled rows, on a few rows of our own."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flywheel.training.data import Example, user
from flywheel.training.doubt import balanced_error, best_band
from flywheel.training.helpfulness_mix import on_policy
from flywheel.training.long_texts import LONGEST_PROMPT, mosaics, sampled_prose
from flywheel.training.replies import helpful, prose, requests, twins
from flywheel.training.reward import thinned
from flywheel.training.safety_mix import TWINS_WEIGHT, sampled_replies
from flywheel.training.teacher import note, softened
from guard.types import Axis, Sample, Score

HOST = "The market opens at eight. Bring a bag for the apples. " * 4
GRAVE, RUDE, MILD = "I will find you and hurt you", "what a damn mess", "the bread was good today"


def toxic(text: str, label: int, **scores: float) -> dict[str, Any]:
    source = "real-toxicity-prompts"
    return {"text": text, "toxic": label, "source": source, "split": "train", "scores": scores}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pairs = [
        {"messages": [{"role": "user", "content": f"Question {i}?"}], "chosen": f"{i}: {HOST}"}
        for i in range(4)
    ]
    posts = [toxic(GRAVE, 1, threat=0.9), toxic(RUDE, 1, profanity=0.9), toxic(MILD, 0, threat=0.1)]
    asked = [
        {"prompt": f"Do thing {i}", "harmful": i % 2, "source": source}
        for i in range(20)
        for source in ("catqa", "oasst")
    ]
    save(tmp_path / "helpful_pairs.jsonl", [p | {"split": "train"} for p in pairs])
    save(tmp_path / "toxicity.jsonl", posts)
    save(tmp_path / "prompt_harm.jsonl", [row | {"split": "train"} for row in asked])
    return tmp_path


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_in_a_mosaic_one_piece_alone_decides(data: Path) -> None:
    found = mosaics(data, "train", random.Random(1))
    texts = {e.good: e.sample.conversation[0].text for e in found}
    assert set(texts) == {0.0, 1.0}
    assert GRAVE in texts[0.0]
    assert MILD in texts[1.0]
    assert not any(RUDE in text for text in texts.values()), "rude is neither grave nor mild"
    for text in texts.values():
        assert "market" in text
        assert len(text) <= LONGEST_PROMPT + 2


def test_sampled_prose_keeps_to_its_split(tmp_path: Path) -> None:
    rows = [
        {"source": source, "split": split, "reply": f"{source} {split}"}
        for source in ("prose", "catqa")
        for split in ("train", "dev")
    ]
    [example] = sampled_prose(save(tmp_path / "replies.jsonl", rows), "dev")
    assert (example.sample.conversation[0].text, example.good) == ("prose dev", 1.0)


def test_weak_replies_to_harmless_twins_count_most_and_are_safe(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Kill a process?", "harmful": harmful, "source": source, "split": split,
         "reply": f"Type kill, then its number. {source} {harmful}"}
        for source in ("handwritten", "catqa")
        for harmful in (0, 1)
        for split in ("train", "dev")
    ]  # fmt: skip
    declined = rows[0] | {"harmful": 1, "reply": "I'm sorry, but I can't help with that."}
    kept = save(tmp_path / "replies.jsonl", [*rows, declined])
    found = sampled_replies(kept, "train", random.Random(1))
    assert [(e.source, e.good, e.weight) for e in found] == [
        ("sampled-twins", 1.0, TWINS_WEIGHT),
        ("sampled-twins", 1.0, TWINS_WEIGHT),
        ("sampled-twins", 0.0, 0.6),
        ("sampled-replies", 1.0, 0.6),
        ("sampled-replies", 0.0, 0.6),
    ]


def test_twins_keep_to_their_split_and_are_mostly_harmless() -> None:
    asked = {split: twins(Path(), split, 1.0, random.Random(1)) for split in ("train", "dev")}
    prompts = {split: {row["prompt"] for row in rows} for split, rows in asked.items()}
    assert prompts["train"].isdisjoint(prompts["dev"])
    assert sum(row["harmful"] for row in asked["train"]) < len(asked["train"]) / 2
    assert {row["source"] for row in asked["train"]} == {"handwritten", "compounds", "generated"}


def test_a_small_models_reply_stands_in_three_pairs(data: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [{"role": "user", "content": f"Question {i}?"}],
            "split": split,
            "reply": f"Answer {i} in so many words that it can be cut somewhere.",
        }
        for i in range(3)
        for split in ("train", "test")
    ]
    pairs = on_policy(save(tmp_path / "replies.jsonl", rows), data, "train", random.Random(2))
    assert sorted(p.source for p in pairs) == ["own"] * 3 + ["own-astray"] * 3 + ["own-cut"] * 3
    for pair in pairs:
        number = pair.chosen.conversation[-1].text.split()[1].rstrip("?")
        chosen, rejected = str(pair.chosen.reply), str(pair.rejected.reply)
        assert chosen.startswith((f"Answer {number}", f"{number}:"))
        assert rejected.startswith(f"Answer {number}") == (pair.source != "own-astray")
        assert (len(rejected) < len(chosen) / 2) == (pair.source != "own-astray")


def test_what_is_asked_is_a_share_of_the_split(data: Path) -> None:
    assert len(requests(data, "train", 0.1, random.Random(3))) == 20 + 10
    assert len(helpful(data, "train", 0.5, random.Random(3))) == 2
    assert requests(data, "dev", 1.0, random.Random(3)) == []


def test_no_topic_of_the_prose_is_asked_for_in_two_splits(data: Path) -> None:
    asked = {
        split: {row["prompt"] for row in prose(data, split, 1.0, random.Random(4))}
        for split in ("train", "dev")
    }
    assert not asked["train"] & asked["dev"]
    assert len(asked["dev"]) == 30


@dataclass
class Doubter:
    def score(self, samples: list[Sample]) -> list[Score]:
        value = float(samples[0].conversation[0].text)
        return [Score(Axis.SAFETY, value, 0.0, "doubter@1")]


def test_thinning_spares_our_own_examples_and_those_in_doubt() -> None:
    def example(value: float, source: str) -> Example:
        return Example(Sample(user(str(value))), 1.0, source)

    examples = [example(0.99, "groups"), example(0.5, "oasst"), example(0.99, "oasst")]
    kept = thinned(examples, 0.0, random.Random(5), Doubter())  # type: ignore[arg-type]
    assert kept == examples[:2]
    assert thinned(examples, 0.0, random.Random(5), None) == examples[:1]
    assert thinned(examples, 1.0, random.Random(5), None) == examples


def test_an_opinion_softens_a_label_and_more_so_a_noisy_one(tmp_path: Path) -> None:
    sure, noisy, unknown = (
        Example(Sample(user(text)), 0.0, source)
        for text, source in (("a", "catqa"), ("b", "anthropic-red-team"), ("c", "catqa"))
    )
    note(tmp_path / "notes.jsonl", [sure, noisy], torch.tensor([0.0, 0.0]))
    found = softened([sure, noisy, unknown], tmp_path / "notes.jsonl")
    assert [e.good for e in found] == pytest.approx([0.15, 0.3, 0.0])


def test_the_band_lies_where_hearing_both_helps_most() -> None:
    quick = np.array([0.05, 0.45, 0.55, 0.95] + [0.01, 0.99] * 10)
    slow = np.array([0.95, 0.95, 0.05, 0.05] + [0.5, 0.5] * 10)
    bad = np.array([True, False, True, False] + [True, False] * 10)
    choice = best_band(quick, slow, bad)
    assert choice.low <= 0.45
    assert choice.high > 0.55
    assert choice.error == 0.0 < balanced_error(quick, bad)
    assert choice.share == pytest.approx(2 / 24)
