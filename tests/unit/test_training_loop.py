"""The loop that trains the small encoders goes on after a kill, and ends with the same weights."""

import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flywheel.training.chat.stage import StageError
from flywheel.training.loop import EVERY, Loop

STEPS = 3 * EVERY + 7


def trained(state: Path, *, killed_at: int = -1, run: str = "one", nonsense_at: int = -1) -> Tensor:
    """The weights that a run ends with. Dropout makes them depend on every random draw."""
    torch.manual_seed(7)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))

    def loss_of(step: int) -> Tensor:
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss: Tensor = (network(torch.full((8, 4), 0.1 * (step % 5))) - step % 3).square().mean()
        return loss * (math.nan if step == nonsense_at else 1)

    Loop(0.1, math.inf, state, run).train(network, range(STEPS), loss_of, "training")
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def kill(state: Path, at: int) -> None:
    child = multiprocessing.get_context("spawn").Process(
        target=trained, args=(state,), kwargs={"killed_at": at}
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    kill(tmp_path / "state", EVERY + 3)
    assert (tmp_path / "state").is_file()
    assert torch.equal(trained(tmp_path / "state"), whole)
    assert not any(tmp_path.iterdir())


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the loss is nan"):
        trained(tmp_path / "state", nonsense_at=EVERY + 1)
    with pytest.raises(StageError, match="other settings or data"):
        trained(tmp_path / "state", run="another")


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_state_before_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(StageError, match="the loss is nan"):
        trained(tmp_path / "state", nonsense_at=EVERY + 1)
    assert torch.equal(trained(tmp_path / "state"), trained(tmp_path / "whole"))


def test_mixed_precision_computes_in_bfloat16_and_keeps_whole_weights(tmp_path: Path) -> None:
    network = nn.Linear(4, 1)
    seen = set[torch.dtype]()

    def loss_of(step: int) -> Tensor:
        found: Tensor = network(torch.full((8, 4), 0.1 * step))
        seen.add(found.dtype)
        return found.float().square().mean()

    Loop(0.1, math.inf, tmp_path / "state", "one", bf16=True).train(network, [1, 2], loss_of, "it")
    assert seen == {torch.bfloat16}
    assert network.weight.dtype is torch.float32
