"""Trains a reward model on a Llama: ranking with margin, and an auxiliary safety loss (§3.2.2).

    python -m flywheel.training.llama_reward --config reward/small --axis safety --model DIR \
        --pairs FILE... --labels FILE... --name NAME --out DIR

The paper's recipe as it stands: the chat model's own body, its language head replaced by one
number, one epoch over pairs of replies. `reward.py` is its small sister on an encoder, which the
gateway runs by itself; this one is served by vLLM's `/classify`, and read by the guard through
the `spec.toml` that is written beside it. Samples are rendered by that spec in training too, so
the two cannot drift apart.

Data: `--pairs` and `--labels` are exports of the journal (`--format preference`, `--format
safety`), of which a share is held back to calibrate on; `--mix DIR` names the labelled sets of
docs/training.md, with splits of their own. Labels, safe or not, feed the auxiliary loss.

`--out` gets `model` (weights, tokenizer, spec.toml, README.md) and `report.json`.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from rich.progress import track
from torch import Tensor

from flywheel.training.calibrate import MIXES
from flywheel.training.chat import base, files, stage, trainer
from flywheel.training.data import Example, Mixture, Pair, conversation
from flywheel.training.losses import auxiliary_loss, ranking_loss, weighted_mean
from flywheel.training.report import THRESHOLD, calibrated, report
from flywheel.training.reward_spec import Format, card, toml, written_spec
from guard.reward.spec import RewardSpec
from guard.types import Axis, Sample


class LlamaRewardSettings(trainer.OptimizerSettings):
    axis: Axis
    model: Path = Field(description="folder of the chat model whose body is taken")
    mix: Path | None = Field(None, description="folder of labelled sets")
    pairs: tuple[Path, ...] = Field((), description="rows with prompt, chosen, rejected, margin")
    labels: tuple[Path, ...] = Field((), description="rows with prompt, completion, label")
    dev_share: float = Field(0.1, gt=0, lt=1, description="of pairs and labels, held back")
    auxiliary: float = Field(1.0, ge=0, description="weight of the auxiliary safety loss")
    format: Format = Field(Format.PLAIN, description="turns as the body knows them")
    window_bytes: int = Field(3072, ge=256, description="longest text that is judged at once")
    name: str = Field(description="goes into every score, with the version")
    version: str = "1"
    out: Path


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(LlamaRewardSettings, __doc__, argv)
    if trainer.finished(settings.out):
        print(f"{settings.out} is finished already")
        return
    files.begin(settings.out, settings, [*settings.pairs, *settings.labels])
    trainer.seeded(settings.seed)
    train, dev = mixed(settings)
    print(f"{len(train.pairs)} pairs and {len(train.examples)} labelled samples to learn from")

    spec = RewardSpec.model_validate(_spec(settings))
    tokenizer, network = _load(settings)
    made = _trainer(network, tokenizer, spec, train, settings)
    losses = trainer.train(made, settings.out)
    network = network.merge_and_unload() if settings.lora_rank else network
    network.eval()

    score = Scorer(network, tokenizer, spec)
    logits = score([e.sample for e in dev.examples], "examples")
    chosen = score([p.chosen for p in dev.pairs], "chosen replies")
    rejected = score([p.rejected for p in dev.pairs], "rejected replies")
    lines = calibrated(dev.examples, logits)
    if not lines:
        raise stage.StageError("the rows held back are of one kind: raise --dev-share")
    figures: dict[str, Any] = {**report(dev, logits, chosen, rejected, lines), "loss": losses}
    stages = {
        kind.value: {"kind": "platt", "slope": line.slope, "intercept": line.intercept}
        for kind, line in lines.items()
    }
    with files.new_folder(settings.out / trainer.MODEL) as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _describe(folder, settings, stages, figures, train)
    trainer.report(settings.out, figures)
    print(f"wrote {settings.out / trainer.MODEL}")


def mixed(settings: LlamaRewardSettings) -> tuple[Mixture, Mixture]:
    """What to learn from, and what to calibrate on. Raises StageError for one-sided data."""
    if settings.mix is not None:
        mix = MIXES[settings.axis]
        train, dev = (mix(settings.mix, split, settings.seed) for split in ("train", "dev"))
    else:
        train, dev = Mixture([], []), Mixture([], [])
    chance = random.Random(settings.seed)
    for path in settings.pairs:
        for row in files.read_rows(path):
            (dev if chance.random() < settings.dev_share else train).pairs.append(_pair(row, path))
    for path in settings.labels:
        for row in files.read_rows(path):
            part = dev if chance.random() < settings.dev_share else train
            part.examples.append(_example(row, path))
    if settings.axis is Axis.HELPFULNESS:  # its examples are the replies of its pairs
        train = Mixture([], train.pairs)
        replies = [e for pair in dev.pairs for e in pair.as_examples()]
        dev = Mixture([Example(e.sample, e.good, e.source) for e in replies], dev.pairs)
    _check(train, settings)
    return train, dev


def _check(train: Mixture, settings: LlamaRewardSettings) -> None:
    if not train.pairs and not train.examples:
        raise stage.StageError("there is nothing to learn from: name --pairs, --labels or --mix")
    if settings.axis is Axis.HELPFULNESS and not train.pairs:
        raise stage.StageError("helpfulness is learnt from --pairs alone, and there are none")
    kinds = {e.good for e in train.examples}
    if settings.axis is Axis.SAFETY and len(kinds) < 2:
        which = "no" if not kinds else "only safe" if 1.0 in kinds else "only unsafe"
        raise stage.StageError(
            f"there are {which} labelled samples, so nothing says where safe ends: name --labels "
            "with both kinds"
        )


def _pair(row: files.Row, path: Path) -> Pair:
    try:
        asked = conversation(row["prompt"])
        chosen, rejected = (row[side][-1]["content"] for side in ("chosen", "rejected"))
        margin = float(row.get("margin", 0.0))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise stage.StageError(
            f"{path}: a pair needs prompt, chosen and rejected, each a list of messages: {error!r}"
        ) from error
    better, worse = (Sample(asked, reply, whole=True) for reply in (chosen, rejected))
    return Pair(better, worse, path.stem, margin)


def _example(row: files.Row, path: Path) -> Example:
    try:
        sample = Sample(conversation(row["prompt"]), row["completion"][-1]["content"], whole=True)
        return Example(sample, float(bool(row["label"])), path.stem)
    except (KeyError, TypeError, IndexError) as error:
        raise stage.StageError(
            f"{path}: a labelled row needs prompt, completion and label: {error!r}"
        ) from error


def _load(settings: LlamaRewardSettings) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(settings.model)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        # The last token that is no padding is what is read, so padding must be nothing else.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    network: Any = AutoModelForSequenceClassification.from_pretrained(
        settings.model, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    base.check_vocabulary(network, tokenizer, settings.model)
    torch.nn.init.zeros_(network.score.weight)  # every reward begins at 0, right in the middle
    network = base.with_lora(network, settings.lora_rank, settings.lora_alpha, task="SEQ_CLS")
    return tokenizer, network


def text_of(spec: RewardSpec, sample: Sample) -> list[str]:
    """What the model reads of a sample: the text of each window."""
    return [request["input"] for request in spec.requests(sample)]


def ranking(rewards: Tensor, batch: dict[str, Tensor], auxiliary: float) -> Tensor:
    """The loss of a batch: pairs first, chosen before rejected, then labelled samples.

    rewards: (2 * pairs + samples,). margin: (pairs,). good, weight: (samples,).
    """
    pairs = len(batch["margin"])
    chosen, rejected, labelled = rewards.tensor_split([pairs, 2 * pairs])
    loss = rewards.new_zeros(())
    if pairs:
        loss = loss + ranking_loss(chosen, rejected, batch["margin"]).mean()
    if len(labelled):
        loss = loss + auxiliary * weighted_mean(
            auxiliary_loss(labelled, batch["good"]), batch["weight"]
        )
    return loss


def _trainer(
    network: Any, tokenizer: Any, spec: RewardSpec, train: Mixture, settings: LlamaRewardSettings
) -> Any:
    from transformers import Trainer, TrainingArguments

    class RankingTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Tensor:
            read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            return ranking(model(**read).logits[:, 0], inputs, settings.auxiliary)

    def collate(rows: list[Pair | Example]) -> dict[str, Tensor]:
        pairs = [row for row in rows if isinstance(row, Pair)]
        examples = [row for row in rows if isinstance(row, Example)]
        samples = [p.chosen for p in pairs] + [p.rejected for p in pairs]
        samples += [e.sample for e in examples]
        return {
            **_encoded(tokenizer, spec, [text_of(spec, sample)[0] for sample in samples]),
            "margin": torch.tensor([p.margin for p in pairs], dtype=torch.float32),
            "good": torch.tensor([e.good for e in examples], dtype=torch.float32),
            "weight": torch.tensor([e.weight for e in examples], dtype=torch.float32),
        }

    chosen = trainer.arguments(
        TrainingArguments, settings, settings.out, remove_unused_columns=False, label_names=[]
    )
    rows: Any = [*train.pairs, *train.examples]
    return RankingTrainer(network, chosen, data_collator=collate, train_dataset=rows)


def _encoded(tokenizer: Any, spec: RewardSpec, texts: Sequence[str]) -> dict[str, Tensor]:
    assert spec.template != "chat"
    special = spec.template.add_special_tokens
    found = tokenizer(list(texts), add_special_tokens=special, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


class Scorer:
    """Rewards of samples, as vLLM and the guard will give them: that of the worst window."""

    def __init__(self, network: Any, tokenizer: Any, spec: RewardSpec) -> None:
        self._network, self._tokenizer, self._spec = network, tokenizer, spec

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample], what: str) -> list[float]:
        found = []
        for sample in track(samples, f"scoring {what} held back", update_period=5):
            read = _encoded(self._tokenizer, self._spec, text_of(self._spec, sample))
            read = {name: value.to(self._network.device) for name, value in read.items()}
            found.append(float(self._network(**read).logits.min()))
        return found


def _spec(settings: LlamaRewardSettings, stages: dict[str, Any] | None = None) -> dict[str, Any]:
    return written_spec(
        settings.axis,
        settings.name,
        settings.version,
        settings.format,
        settings.window_bytes,
        stages,
    )


def _describe(
    folder: Path,
    settings: LlamaRewardSettings,
    stages: dict[str, Any],
    figures: dict[str, Any],
    train: Mixture,
) -> None:
    """spec.toml, which the guard loads, and the model card."""
    (folder / "spec.toml").write_text(toml(_spec(settings, stages)), encoding="utf-8")
    sources = sorted({p.source for p in train.pairs} | {e.source for e in train.examples})
    shown = {k: figures[k] for k in ("stages", "pairs")}
    text = card(settings.name, settings.version, settings.axis, settings.model.name, sources,
                len(train.pairs), len(train.examples), THRESHOLD, shown)  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
