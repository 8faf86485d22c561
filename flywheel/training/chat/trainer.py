"""What the stages that train with the Trainer of transformers share.

The same arguments as the paper's, checkpoints that a killed run goes on from, and a stop at a
loss that is not a number.
"""

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import set_seed

from flywheel.training.chat.files import need_space, new_folder, write_json
from flywheel.training.chat.stage import Settings, StageError

ADAPTER, MODEL = "adapter", "model"


class OptimizerSettings(Settings):
    """AdamW with a cosine schedule, as the paper has it throughout."""

    rate: float = Field(2e-5, gt=0, description="peak learning rate")
    floor: float = Field(0.1, ge=0, le=1, description="share of the peak at the end")
    warm_up: float = Field(0.03, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.1, ge=0)
    beta2: float = Field(0.95, gt=0, lt=1)
    epsilon: float = Field(1e-5, gt=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    epochs: float = Field(1.0, gt=0)
    max_steps: int = Field(-1, description="stop after so many steps; -1: epochs decide")
    batch: int = Field(64, ge=1, description="rows a step, over all devices")
    micro_batch: int = Field(4, ge=1, description="rows at once on one device")
    bf16: bool = Field(False, description="mixed precision on a CPU, as GPUs always have it")
    lora_rank: int = Field(16, ge=0, description="0 trains all weights")
    lora_alpha: int = Field(32, ge=1)
    save_every: int = Field(50, ge=1, description="steps between checkpoints")
    seed: int = 7


def arguments(kind: type[Any], settings: OptimizerSettings, out: Path, **more: Any) -> Any:
    """Arguments of a Trainer; kind: TrainingArguments or one of TRL's subclasses."""
    devices = max(1, torch.cuda.device_count())
    gpu = torch.cuda.is_available()
    return kind(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=min(settings.micro_batch, settings.batch),
        gradient_accumulation_steps=max(1, settings.batch // (settings.micro_batch * devices)),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.floor},
        warmup_steps=settings.warm_up,
        weight_decay=settings.weight_decay,
        adam_beta1=0.9,
        adam_beta2=settings.beta2,
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.clip,
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_steps=min(10, settings.save_every),
        logging_nan_inf_filter=False,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=gpu or settings.bf16,
        gradient_checkpointing=gpu,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not gpu,
        report_to=[],
        disable_tqdm=None,
        dataloader_pin_memory=gpu,
        **more,
    )


class StopAtNonsense(TrainerCallback):
    """Ends a run whose loss is not a number, before a checkpoint is spoilt by it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise StageError(
                f"the loss is {loss} at step {state.global_step}: look for broken rows, or take a "
                "lower --rate; the last checkpoint before it is whole"
            )


def train(trainer: Any, out: Path) -> dict[str, float]:
    """Trains to the end, from the last whole checkpoint if there is one. The loss by step."""
    trainer.add_callback(StopAtNonsense())
    parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    need_space(out, 3 * 12 * parameters)  # weights and two moments, in three checkpoints
    last = last_checkpoint(out / "checkpoints")
    if last is not None:
        print(f"going on from {last}", flush=True)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    history = trainer.state.log_history
    return {str(row["step"]): row["loss"] for row in history if "loss" in row}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint: its state is written last, so a readable one says all is there.

    What a kill left half written is removed.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            shutil.rmtree(path)
            continue
        return path
    return None


def save(network: Any, tokenizer: Any, out: Path) -> Path:
    """The finished model as a folder that appears whole: an adapter, or all weights."""
    is_adapter = hasattr(network, "peft_config")
    target = out / (ADAPTER if is_adapter else MODEL)
    with new_folder(target) as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return target


def finished(out: Path) -> Path | None:
    """The model of a run that has ended."""
    return next((out / name for name in (ADAPTER, MODEL) if (out / name).is_dir()), None)


def report(out: Path, figures: dict[str, Any]) -> None:
    write_json(out / "report.json", figures)


def check_usable(rows: Iterable[Any], what: str) -> None:
    """Raises StageError where there is nothing to learn from."""
    if not any(True for _ in rows):
        raise StageError(f"there is no {what} to learn from: look at the input files")


def seeded(seed: int) -> None:
    set_seed(seed)
