"""Supervised fine-tuning: the model learns to say what good replies say (Llama 2, §3.1).

    python -m flywheel.training.chat.sft --config sft/small --model DIR --data FILE... --out DIR

Every stage that finds good replies (distillation, rejection sampling, Ghost Attention, an export
of the journal) ends here. A row is {"prompt", "completion"} or {"messages"}, as TRL has them,
and only replies are learnt: with a completion that reply alone, otherwise all of them. Rows are
packed into sequences of full length; packed rows do not see each other. The paper packs with a
separator between rows and lets them see each other, which costs nothing at its size.

Steps, in order: encode, check, train (going on after a kill), save an adapter or all weights.
`--out` gets `adapter` or `model`, `report.json`, and `checkpoints` that may be removed.
Several GPUs: accelerate launch --config_file FILE -m flywheel.training.chat.sft ...
"""

import random
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.training.chat import base, files, stage, tokens, trainer


class SftSettings(trainer.OptimizerSettings):
    model: Path = Field(description="folder of the chat model to start from")
    adapter: Path | None = Field(None, description="an earlier adapter to go on from")
    template: Path | None = Field(None, description="Jinja file, for a model without a template")
    data: tuple[Path, ...] = Field(description="JSON lines files")
    limits: tuple[int, ...] = Field((), description="at most so many rows of each file")
    out: Path
    length: int = Field(4096, ge=32, description="tokens of a packed sequence")
    packing: bool = True


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(SftSettings, __doc__, argv)
    if trainer.finished(settings.out):
        print(f"{settings.out} is finished already")
        return
    files.begin(settings.out, settings, settings.data)
    trainer.seeded(settings.seed)

    tokenizer = base.load_tokenizer(settings.model, settings.template)
    encoded, dropped = _encode(tokenizer, settings)
    learnt = sum(row.learnt for row in encoded)
    print(f"{len(encoded)} rows, {learnt:,} tokens to learn; {dropped} rows are too long")

    network = base.load_chat_model(settings.model, tokenizer)
    network = base.with_lora(
        network, settings.lora_rank, settings.lora_alpha, start=settings.adapter
    )
    losses = _train(network, tokenizer, encoded, settings)

    where = trainer.save(network, tokenizer, settings.out)
    figures = {"rows": len(encoded), "learnt_tokens": learnt, "too_long": dropped, "loss": losses}
    trainer.report(settings.out, figures)
    print(f"wrote {where}")


def _encode(tokenizer: Any, settings: SftSettings) -> tuple[list[tokens.Encoded], int]:
    """Rows that fit, and how many do not: a reply that is cut off must not be learnt."""
    rows: list[files.Row] = []
    for index, path in enumerate(settings.data):
        found = files.read_rows(path)
        trainer.check_usable(found, f"row in {path}")
        if settings.limits:
            if len(settings.limits) != len(settings.data):
                raise stage.StageError("--limits needs one number for each file of --data")
            chance = random.Random(settings.seed)
            found = chance.sample(found, min(len(found), settings.limits[index]))
        rows += found
    encoded = [tokens.encode(tokenizer, row) for row in rows]
    fitting = [row for row in encoded if len(row.ids) <= settings.length and row.learnt]
    trainer.check_usable(fitting, f"row within {settings.length} tokens")
    return fitting, len(encoded) - len(fitting)


def _train(
    network: Any, tokenizer: Any, encoded: list[tokens.Encoded], settings: SftSettings
) -> dict[str, float]:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in encoded])
    chosen = trainer.arguments(
        SFTConfig,
        settings,
        settings.out,
        max_length=settings.length,
        packing=settings.packing,
        shuffle_dataset=True,
    )
    made = SFTTrainer(network, chosen, train_dataset=rows, processing_class=tokenizer)
    return trainer.train(made, settings.out)


if __name__ == "__main__":
    stage.run(main)
