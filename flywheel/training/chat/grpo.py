"""GRPO with the paper's reward: the maintained alternative to PPO (TRL's GRPOTrainer).

    python -m flywheel.training.chat.grpo --config grpo/small --model DIR \
        --prompts FILE... --out DIR
    accelerate launch --config_file FILE -m flywheel.training.chat.grpo ... --vllm true

Instead of a value head, each prompt's replies are compared with each other: a reply's advantage
is how far its reward lies above the group's mean (Shao et al., "DeepSeekMath", 2024). The reward
of a reply is the logit of R_c, as in ppo.py; the comparison within a group takes the place of
whitening, and comes before the KL term too.

Simplification: there is no early stopping; look at the held-out figures of the wheel instead.
`--vllm true` has TRL sample on a vLLM in the same process, for GPUs.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.training.chat import base, files, stage, trainer
from flywheel.training.chat.judge import Judge, JudgeSettings
from flywheel.training.chat.prompts import balanced, read_prompts
from guard.combined import logit


class GrpoSettings(trainer.OptimizerSettings, JudgeSettings):
    model: Path = Field(description="folder of the chat model to start from")
    adapter: Path | None = Field(None, description="an earlier adapter to go on from")
    template: Path | None = None
    prompts: tuple[Path, ...] = Field(description="JSON lines files")
    limit: int = Field(10_000, ge=1, description="prompts, sources taking turns")
    longest: int = Field(1000, ge=1, description="characters of a prompt")
    out: Path
    group: int = Field(8, ge=2, description="replies to each prompt; divides --batch")
    tokens: int = Field(512, ge=1, description="longest reply")
    temperature: float = Field(1.0, gt=0)
    beta: float = Field(0.01, ge=0, description="weight of the KL term")
    clip_ratio: float = Field(0.2, gt=0)
    vllm: bool = Field(False, description="sample on vLLM in this process")


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(GrpoSettings, __doc__, argv)
    if trainer.finished(settings.out):
        print(f"{settings.out} is finished already")
        return
    if settings.batch % settings.group:
        raise stage.StageError(f"--batch {settings.batch} is no multiple of --group")
    files.begin(settings.out, settings, settings.prompts)
    trainer.seeded(settings.seed)
    read = read_prompts(settings.prompts, seed=settings.seed, longest=settings.longest)
    chosen = balanced(read, settings.limit)
    judge = Judge.load(settings)
    tokenizer = base.load_tokenizer(settings.model, settings.template)
    network = base.load_chat_model(settings.model, tokenizer)
    network = base.with_lora(
        network, settings.lora_rank, settings.lora_alpha, start=settings.adapter
    )

    def combined(
        prompts: list[files.Messages], completions: list[files.Messages], adversarial: list[bool],
        **_: Any,
    ) -> list[float | None]:  # fmt: skip
        """TRL's reward function: one number for each reply."""
        return [
            logit(judge.worth(asked, said[-1]["content"], adversarial=harm).reward)
            for asked, said, harm in zip(prompts, completions, adversarial, strict=True)
        ]

    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    rows = [{"prompt": p.chat, "adversarial": p.adversarial} for p in chosen]
    arguments = trainer.arguments(
        GRPOConfig,
        settings,
        settings.out,
        num_generations=settings.group,
        max_completion_length=settings.tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        epsilon=settings.clip_ratio,
        use_vllm=settings.vllm,
        vllm_mode="colocate",
    )
    made = GRPOTrainer(
        network,
        reward_funcs=combined,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    losses = trainer.train(made, settings.out)
    rewards = {str(r["step"]): r["reward"] for r in made.state.log_history if "reward" in r}
    where = trainer.save(network, tokenizer, settings.out)
    trainer.report(settings.out, {"loss": losses, "mean_reward": rewards, "judges": judge.models})
    print(f"wrote {where}")


if __name__ == "__main__":
    stage.run(main)
