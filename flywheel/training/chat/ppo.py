"""PPO with the paper's reward (Llama 2, §3.2.3), on one node.

    python -m flywheel.training.chat.ppo --config ppo/small --model DIR --prompts FILE... --out DIR
    accelerate launch --config_file FILE -m flywheel.training.chat.ppo ...

Each iteration samples one reply a prompt, scores it with the guard, and takes one step for each
mini-batch. The reward is whiten(logit(R_c)) at a reply's end, less beta times the KL estimate at
each of its tokens; R_c is safety where the prompt is adversarial or safety is below 0.15, else
helpfulness. Every `--look-every` iterations greedy replies to held-out prompts are scored; the
best version is kept, and after `--patience` looks without a better one the run stops.

Simplifications: replies are sampled by transformers, not by vLLM; policy, reference and value
head share one body under LoRA; the advantages are normalised, of which the paper says nothing.
For tens of billions of parameters OpenRLHF does the sampling and sharding, with this guard as
its reward server: docs/wheel.md.

`--out` gets `adapter` (of the best look), `report.json`, and `state`, from which a killed run
goes on: weights, optimizer, random numbers and history, replaced as a whole each iteration.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import Field
from torch import Tensor

from flywheel.training.chat import base, files, ppo_math, stage, trainer
from flywheel.training.chat.judge import Judge, JudgeSettings
from flywheel.training.chat.policy import Policy, Rollout
from flywheel.training.chat.prompts import Prompt, balanced, read_prompts
from guard.combined import logit


class PpoSettings(JudgeSettings):
    model: Path = Field(description="folder of the chat model to start from")
    adapter: Path | None = Field(None, description="an earlier adapter to go on from")
    template: Path | None = None
    prompts: tuple[Path, ...] = Field(description="JSON lines files")
    limit: int = Field(10_000, ge=2, description="prompts, sources taking turns")
    longest: int = Field(1000, ge=1, description="characters of a prompt")
    held_out: int = Field(64, ge=1, description="prompts that are only looked at")
    out: Path
    iterations: int = Field(400, ge=1)
    batch: int = Field(512, ge=2, description="replies an iteration, over all devices")
    mini_batch: int = Field(64, ge=1, description="replies a step, over all devices")
    rollout: int = Field(16, ge=1, description="replies sampled at once on one device")
    tokens: int = Field(512, ge=1, description="longest reply")
    temperature: float = Field(1.0, gt=0)
    beta: float = Field(0.01, ge=0, description="weight of the KL term")
    clip: float = Field(0.2, gt=0)
    value_weight: float = Field(0.1, ge=0)
    gamma: float = Field(1.0, gt=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    rate: float = Field(1e-6, gt=0, description="learning rate, constant")
    value_rate: float = Field(1e-4, gt=0, description="of the value head")
    weight_decay: float = Field(0.1, ge=0)
    max_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    lora_rank: int = Field(64, ge=1)
    lora_alpha: int = Field(128, ge=1)
    look_every: int = Field(20, ge=1, description="iterations between looks at held-out prompts")
    patience: int = Field(3, ge=1, description="looks without a better one")
    seed: int = 7


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(PpoSettings, __doc__, argv)
    if trainer.finished(settings.out):
        print(f"{settings.out} is finished already")
        return
    accelerator = Accelerator()
    if accelerator.is_main_process:
        files.begin(settings.out, settings, settings.prompts)
    accelerator.wait_for_everyone()
    trainer.seeded(settings.seed + accelerator.process_index)

    read = read_prompts(settings.prompts, seed=settings.seed, longest=settings.longest)
    chosen = balanced(read, settings.limit)
    held_out, pool = chosen[: settings.held_out], chosen[settings.held_out :]
    if len(pool) < settings.batch:
        raise stage.StageError(
            f"{len(pool)} prompts are left beside the {len(held_out)} held out, and an iteration "
            f"needs {settings.batch}: name larger files, or lower --batch and --held-out"
        )
    judge = Judge.load(settings)
    tokenizer = base.load_tokenizer(settings.model, settings.template)
    network = base.load_chat_model(settings.model, tokenizer)
    network = base.with_lora(
        network, settings.lora_rank, settings.lora_alpha, start=settings.adapter
    )
    policy = Policy(network, start=settings.adapter)
    run = Run(policy, tokenizer, judge, settings, accelerator)
    run.restore()

    while True:
        ended = run.iteration == settings.iterations
        if ended or run.iteration % settings.look_every == 0:
            run.look(held_out)
        if ended or run.looks_without_gain >= settings.patience:
            break
        figures = run.iterate(_batch(pool, run.iteration, settings))
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        accelerator.print(f"iteration {run.iteration}: {shown}")
        run.save()
    run.finish()


def _batch(pool: Sequence[Prompt], iteration: int, settings: PpoSettings) -> list[Prompt]:
    """The prompts of an iteration: the same ones whenever it is run."""
    return random.Random(f"{settings.seed} {iteration}").sample(list(pool), settings.batch)


class Run:
    """A run between two iterations: all that has to survive a kill."""

    def __init__(
        self,
        policy: Policy,
        tokenizer: Any,
        judge: Judge,
        settings: PpoSettings,
        accelerator: Accelerator,
    ) -> None:
        self.iteration = 0
        self.looks_without_gain = 0
        self._best = -math.inf
        self._best_adapter: dict[str, Tensor] = {}
        self._history: list[dict[str, float]] = []
        self._tokenizer, self._judge, self._settings = tokenizer, judge, settings
        self._accelerator = accelerator
        groups: list[dict[str, Any]] = [
            {"params": [p for p in policy.network.parameters() if p.requires_grad]},
            {"params": policy.value.parameters(), "lr": settings.value_rate},
        ]
        optimizer = torch.optim.AdamW(
            groups, settings.rate, (0.9, 0.95), eps=1e-5, weight_decay=settings.weight_decay
        )
        self._policy, self._optimizer = accelerator.prepare(policy, optimizer)
        self._bare: Policy = accelerator.unwrap_model(self._policy)

    def iterate(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Sample, score, learn. Raises StageError at a loss that is not a number."""
        settings, accelerator = self._settings, self._accelerator
        mine = prompts[accelerator.process_index :: accelerator.num_processes]
        parts = [
            self._sampled(mine[start : start + settings.rollout])
            for start in range(0, len(mine), settings.rollout)
        ]
        scores = [score for _, found in parts for score in found]
        own = torch.tensor([logit(score) for score in scores])
        # Whitened over all devices, before the KL term.
        whitened = ppo_math.whiten(own, torch.tensor(gather_object(own.tolist())))
        losses, kls = self._learn([rollout for rollout, _ in parts], whitened)
        self.iteration += 1
        figures = {
            "reward": fmean(gather_object(scores)),
            "kl": fmean(gather_object(kls)),
            "loss": fmean(gather_object(losses)),
        }
        self._history.append(figures)
        return figures

    def _sampled(self, prompts: Sequence[Prompt]) -> tuple[Rollout, list[float]]:
        self._bare.eval()
        rollout = self._bare.sample(
            self._tokenizer,
            [prompt.chat for prompt in prompts],
            tokens=self._settings.tokens,
            temperature=self._settings.temperature,
        )
        return rollout, self._scores(prompts, rollout)

    def _scores(self, prompts: Sequence[Prompt], rollout: Rollout) -> list[float]:
        return [
            self._judge.worth(prompt.chat, text, adversarial=prompt.adversarial).reward
            for prompt, text in zip(prompts, rollout.texts, strict=True)
        ]

    def _learn(self, rollouts: list[Rollout], scores: Tensor) -> tuple[list[float], list[float]]:
        """One gradient step for each mini-batch."""
        settings, accelerator = self._settings, self._accelerator
        prepared, kls, start = [], list[float](), 0
        for rollout in rollouts:
            size = len(rollout.texts)
            with torch.no_grad():
                old, values = self._bare(rollout, settings.temperature)
            reference = self._bare.reference(rollout, settings.temperature)
            mask = rollout.mask.float()
            own = scores[start : start + size].to(old.device)
            rewards = ppo_math.token_rewards(own, old, reference, mask, settings.beta)
            found = ppo_math.advantages(rewards, values, mask, settings.gamma, settings.lam)
            kls += ((old - reference) * mask).sum(1).tolist()
            prepared.append((rollout, old, values, *found))
            start += size
        step = max(1, settings.mini_batch // accelerator.num_processes)
        losses = []
        for rollout, old, values, advantage, returns in prepared:
            for at in range(0, len(rollout.texts), step):
                rows = slice(at, at + step)
                part = rollout.rows(rows)
                mask = part.mask.float()
                logp, new_values = self._policy(part, settings.temperature)
                gain = ppo_math.normalised(advantage[rows], mask)
                loss = ppo_math.policy_loss(logp, old[rows], gain, mask, settings.clip)
                loss = loss + settings.value_weight * ppo_math.value_loss(
                    new_values, values[rows], returns[rows], mask, settings.clip
                )
                if not torch.isfinite(loss):
                    raise stage.StageError(
                        f"the loss is {loss.item()} in iteration {self.iteration}: lower --rate; "
                        "the state before it is kept"
                    )
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(self._policy.parameters(), settings.max_norm)
                self._optimizer.step()
                self._optimizer.zero_grad()
                losses.append(loss.item())
        return losses, kls

    def look(self, held_out: Sequence[Prompt]) -> None:
        """Score greedy replies to held-out prompts; keep the adapter if they are the best yet."""
        settings, accelerator = self._settings, self._accelerator
        mine = held_out[accelerator.process_index :: accelerator.num_processes]
        found: list[float] = []
        self._bare.eval()
        for start in range(0, len(mine), settings.rollout):
            part = mine[start : start + settings.rollout]
            chats = [prompt.chat for prompt in part]
            rollout = self._bare.sample(
                self._tokenizer, chats, tokens=settings.tokens, temperature=0.0
            )
            found += self._scores(part, rollout)
        score = fmean(gather_object(found))
        accelerator.print(f"held-out reward {score:.4f} after {self.iteration} iterations")
        if self._history:
            self._history[-1]["held_out"] = score
        if score > self._best:
            self._best, self.looks_without_gain = score, 0
            weights = get_peft_model_state_dict(self._bare.network)
            self._best_adapter = {n: w.detach().cpu().clone() for n, w in weights.items()}
        else:
            self.looks_without_gain += 1

    def save(self) -> None:
        """The whole run, beside the old state until it is complete."""
        self._accelerator.wait_for_everyone()
        states = gather_object([torch.get_rng_state()])
        if not self._accelerator.is_main_process:
            return
        out = self._settings.out
        temporary = out / ".state.new"
        torch.save(
            {
                "iteration": self.iteration,
                "looks_without_gain": self.looks_without_gain,
                "best": self._best,
                "best_adapter": self._best_adapter,
                "history": self._history,
                "adapter": get_peft_model_state_dict(self._bare.network),
                "value": self._bare.value.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "random": states,
            },
            temporary,
        )
        temporary.replace(out / "state")

    def restore(self) -> None:
        path = self._settings.out / "state"
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.iteration = state["iteration"]
        self.looks_without_gain = state["looks_without_gain"]
        self._best, self._best_adapter = state["best"], state["best_adapter"]
        self._history = state["history"]
        set_peft_model_state_dict(self._bare.network, state["adapter"])
        self._bare.value.load_state_dict(state["value"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"][self._accelerator.process_index])
        self._accelerator.print(f"going on after iteration {self.iteration}")

    def finish(self) -> None:
        """The best adapter, as a folder that appears whole."""
        if not self._accelerator.is_main_process:
            return
        set_peft_model_state_dict(self._bare.network, self._best_adapter)
        where = trainer.save(self._bare.without_reference(), self._tokenizer, self._settings.out)
        trainer.report(
            self._settings.out,
            {"held_out_reward": self._best, "iterations": self.iteration,
             "judges": self._judge.models, "history": self._history},
        )  # fmt: skip
        (self._settings.out / "state").unlink(missing_ok=True)
        print(f"wrote {where}, held-out reward {self._best:.4f}")


if __name__ == "__main__":
    stage.run(main)
