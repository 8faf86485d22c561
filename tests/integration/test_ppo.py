"""PPO on a tiny Llama: it learns, stops early, and goes on after a kill with the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flywheel.training.chat import base, ppo
from flywheel.training.chat.files import write_rows
from flywheel.training.chat.judge import Judge
from flywheel.training.chat.policy import Policy
from flywheel.training.chat.stage import StageError
from server.engine_command import LLAMA2_TEMPLATE
from tests.fakes.tiny_llama import build_tiny_llama
from tests.fakes.training_judge import word_judge

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    rows = [{"prompt": f"What is number {n}?", "harmful": 0, "split": "train"} for n in range(24)]
    write_rows(path, rows)
    return path


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likes replies with an `e` in them."""
    made = word_judge({}, {"e": 0.9, "": 0.1})
    monkeypatch.setattr(Judge, "load", lambda settings: made)


def command(model: Path, prompts: Path, out: Path, *more: str) -> list[str]:
    fixed = (
        f"--template {LLAMA2_TEMPLATE} --batch 8 --mini-batch 4 --rollout 8 --held-out 4 "
        "--tokens 6 --rate 1e-2 --lora-rank 4 --iterations 3 --look-every 2"
    )
    where = ("--model", str(model), "--prompts", str(prompts), "--out", str(out))
    return [*where, *fixed.split(), *more]


@pytest.fixture(scope="module")
def killed(model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its first iteration."""
    out = tmp_path_factory.mktemp("killed") / "run"
    script = (
        "import sys; from tests.fakes.training_judge import word_judge;"
        "from flywheel.training.chat import ppo; from flywheel.training.chat.judge import Judge;"
        "Judge.load = lambda settings: word_judge({}, {'e': 0.9, '': 0.1}); ppo.main(sys.argv[1:])"
    )
    asked = command(model, prompts, out)
    child = subprocess.Popen([sys.executable, "-c", script, *asked])
    while not (out / "state").is_file() and child.poll() is None:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    return out


def test_a_killed_run_goes_on_and_ends_with_the_same_adapter(
    model: Path, prompts: Path, killed: Path, tmp_path: Path
) -> None:
    assert not (killed / "adapter").exists()
    ppo.main(command(model, prompts, killed))
    ppo.main(command(model, prompts, tmp_path / "run"))
    mine, theirs = (
        load_file(out / "adapter" / "adapter_model.safetensors")
        for out in (killed, tmp_path / "run")
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    report = json.loads((killed / "report.json").read_text())
    assert report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["history"]) == 3


def test_a_reward_that_can_be_had_is_learnt(model: Path, prompts: Path, tmp_path: Path) -> None:
    ppo.main(command(model, prompts, tmp_path / "run", "--iterations", "12", "--beta", "0"))
    history = json.loads((tmp_path / "run" / "report.json").read_text())["history"]
    first, last = (sum(row["reward"] for row in part) for part in (history[:3], history[-3:]))
    assert last > first + 0.3


def test_it_stops_when_held_out_prompts_gain_nothing(
    model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "load", lambda settings: word_judge({}, {}))
    ppo.main(
        command(model, prompts, tmp_path / "run", "--iterations", "50", "--look-every", "1",
                "--patience", "2")
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "report.json").read_text())["iterations"] == 2


def test_it_goes_on_from_an_adapter_and_is_held_near_that_one(
    model: Path, prompts: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    tokenizer = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    made = base.with_lora(base.load_chat_model(model, tokenizer), 4, 8)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    made.save_pretrained(first)

    network = base.with_lora(base.load_chat_model(model, tokenizer), 4, 8, start=first)
    policy = Policy(network, start=first).eval()
    chat = [[{"role": "user", "content": "Hi."}]]
    rollout = policy.sample(tokenizer, chat, tokens=4, temperature=1.0)
    began = policy.reference(rollout, 1.0)
    assert torch.equal(began, policy(rollout, 1.0)[0].detach())
    with network.disable_adapter():
        assert not torch.allclose(began, policy(rollout, 1.0)[0].detach(), atol=1e-3)

    out = tmp_path / "run"
    ppo.main(command(model, prompts, out, "--iterations", "1", "--adapter", str(first)))
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert not (out / "adapter" / "reference").exists()


def test_log_probabilities_do_not_depend_on_padding(model: Path) -> None:
    tokenizer = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    network = base.with_lora(base.load_chat_model(model, tokenizer), 4, 8)
    policy = Policy(network).eval()
    chats = [[{"role": "user", "content": text}] for text in ("Hi.", "What is the capital? " * 3)]
    torch.manual_seed(0)
    rollout = policy.sample(tokenizer, chats, tokens=5, temperature=1.0)
    together, _ = policy(rollout, 1.0)
    alone: list[Any] = []
    for row in range(2):
        start = int((rollout.attended[row] == 0).long()[:-5].sum())
        one = rollout.rows(slice(row, row + 1))
        cut = type(one)(one.ids[:, start:], one.attended[:, start:], one.mask, one.texts)
        alone.append(policy(cut, 1.0)[0][0])
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)
    assert torch.equal(policy.reference(rollout, 1.0), together.detach())


def test_a_loss_that_is_no_number_keeps_the_state_before_it(
    model: Path, prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="lower --rate"):
        ppo.main(command(model, prompts, tmp_path / "run", "--rate", "1e30"))
    assert not (tmp_path / "run" / "adapter").exists()


def test_too_few_prompts_are_refused(model: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="--held-out"):
        ppo.main(command(model, prompts, tmp_path / "run", "--held-out", "20"))
