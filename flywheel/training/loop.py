"""The loop that trains the small encoders: AdamW, a cosine schedule, and going on after a kill.

Every `EVERY` steps the state is written beside the output, whole or not at all. The same run
given again goes on from there and ends with the same weights.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress
from torch import Tensor, nn

from flywheel.training.chat.stage import StageError

EVERY = 50
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Loop:
    """rate: peak learning rate. minutes: stop by then, over all parts of a run.

    state: the file that the run goes on from; it is removed at the end. run: what makes two runs
    the same, such as settings and data; the state of another one is refused. bf16: the forward
    pass in mixed precision, half the time on a CPU that has instructions for it.
    """

    rate: float
    minutes: float
    state: Path
    run: str
    bf16: bool = False

    def train(
        self, network: nn.Module, plan: Sequence[S], loss_of: Callable[[S], Tensor], what: str
    ) -> None:
        """One step for each entry of the plan. Raises StageError at a loss that is no number."""
        trainable = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trainable, lr=self.rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01
        )
        first, spent = self._resume(network, optimizer)
        network.train()
        start = time.monotonic() - spent
        losses: list[float] = []
        with Progress(speed_estimate_period=120) as progress:
            bar = progress.add_task(what, total=len(plan), completed=first)
            for step in range(first, len(plan)):
                # The schedule follows the clock where that is short, so a stop is a landing.
                elapsed = (time.monotonic() - start) / 60 / self.minutes
                if elapsed >= 1:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = self.rate * cosine(max(step / len(plan), elapsed))
                with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                    loss = loss_of(plan[step])
                losses.append(_step(optimizer, trainable, loss))
                progress.advance(bar)
                if (step + 1) % EVERY == 0:
                    mean = sum(losses) / len(losses)
                    progress.print(f"step {step + 1} of {len(plan)}: mean loss {mean:.3f}")
                    losses.clear()
                    self._save(network, optimizer, step + 1, time.monotonic() - start)
        self.state.unlink(missing_ok=True)

    def _save(self, network: nn.Module, optimizer: Any, step: int, spent: float) -> None:
        state = {
            "run": self.run,
            "step": step,
            "spent": spent,
            "weights": {n: p.detach() for n, p in network.named_parameters() if p.requires_grad},
            "optimizer": optimizer.state_dict(),
            "chance": torch.get_rng_state(),
        }
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_suffix(".part")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.state)

    def _resume(self, network: nn.Module, optimizer: Any) -> tuple[int, float]:
        """The step to begin with, and the seconds that earlier parts took."""
        if not self.state.is_file():
            return 0, 0.0
        state: dict[str, Any] = torch.load(self.state, weights_only=True)
        if state["run"] != self.run:
            raise StageError(
                f"{self.state} is of a run with other settings or data: give the same ones to go "
                "on, or remove the file to begin anew"
            )
        network.load_state_dict(state["weights"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["chance"])
        print(f"going on after step {state['step']}", flush=True)
        return state["step"], state["spent"]


def same_run(options: argparse.Namespace, *sizes: int) -> str:
    """What two runs have in common that come to the same: their options and how much they learn."""
    incidental = ("threads", "minutes", "out")
    asked = {name: str(value) for name, value in vars(options).items() if name not in incidental}
    return f"{asked} {sizes}"


def _step(optimizer: Any, trainable: Sequence[Tensor], loss: Tensor) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise StageError(
            f"the loss is {value}: look for broken rows, or take a lower --rate; the last state "
            "before it is whole"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trainable, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return value


def cosine(done: float, warm_up: float = 0.05, floor: float = 0.1) -> float:
    """Share of the peak rate when `done` (0 to 1) of the training is behind.

    Linear warm-up, then a cosine down to a tenth.
    """
    if done < warm_up:
        return max(done, 1e-3) / warm_up
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))
