"""Supervised fine-tuning of a tiny Llama, for a few steps on the CPU."""

import errno
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

from flywheel.training.chat import base, sft, trainer
from flywheel.training.chat.files import write_rows
from flywheel.training.chat.stage import StageError, run
from server.engine_command import LLAMA2_TEMPLATE
from tests.fakes.tiny_llama import build_tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("bread", "jam", "fox", "river", "wizard", "dog", "quick", "brown", "seven", "friend")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    write_rows(path, (row(word) for word in WORDS * 2))
    return path


def row(word: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"What is a {word}?"}],
        "completion": [{"role": "assistant", "content": f"A {word} is a {word}."}],
    }


def command(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    fixed = f"--template {LLAMA2_TEMPLATE} --rate 1e-2 --batch 2 --micro-batch 1 --length 128"
    return [
        *("--model", str(model), "--data", str(data), "--out", str(out)),
        *(*fixed.split(), "--lora-rank", "4", "--save-every", "2", "--max-steps", "6", *more),
    ]


@pytest.fixture(scope="module")
def straight(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("straight") / "run"
    sft.main(command(model, data, out))
    return out


def test_a_few_steps_lower_the_loss_and_leave_an_adapter(straight: Path) -> None:
    report = json.loads((straight / "report.json").read_text())
    losses = list(report["loss"].values())
    assert losses[-1] < losses[0]
    assert report["rows"] == 2 * len(WORDS)
    assert (straight / "adapter" / "adapter_model.safetensors").is_file()


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    model: Path, data: Path, straight: Path, tmp_path: Path
) -> None:
    arguments = command(model, data, tmp_path / "run")
    first = tmp_path / "run" / "checkpoints" / "checkpoint-2" / "trainer_state.json"
    child = subprocess.Popen([sys.executable, "-m", "flywheel.training.chat.sft", *arguments])
    while not first.is_file() and child.poll() is None:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "adapter").exists()
    sft.main(arguments)
    mine, theirs = (
        load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (tmp_path / "run", straight)
    )
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_an_earlier_adapter_is_gone_on_from_and_not_merged(
    model: Path, data: Path, straight: Path, tmp_path: Path
) -> None:
    first = straight / "adapter"
    more = ("--adapter", str(first), "--max-steps", "1", "--rate", "1e-12")
    sft.main(command(model, data, tmp_path / "run", *more))
    mine, theirs = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (tmp_path / "run" / "adapter", first)
    )
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-9) for name in theirs)


def test_packed_rows_do_not_see_each_other(model: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    network = base.load_chat_model(model, tokenizer).eval()
    one, two = ([1, 40, 80, 120, 9], [1, 300, 200, 2])
    packed = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(
        [{"input_ids": one + two, "labels": one + two, "seq_lengths": [len(one), len(two)]}]
    )
    with torch.no_grad():
        seen = {name: packed[name] for name in ("input_ids", "position_ids")}
        together = network(**seen, use_cache=False).logits[0, len(one) :]  # as in training
        alone = network(input_ids=torch.tensor([two])).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_half_written_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (4, '{"global_st')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-10").mkdir()
    assert trainer.last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_loss_that_is_no_number_stops_the_run(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = base.load_chat_model

    def poisoned(*arguments: Any) -> Any:
        network = load(*arguments)
        with torch.no_grad():
            network.lm_head.weight[5] = float("nan")
        return network

    monkeypatch.setattr(base, "load_chat_model", poisoned)
    with pytest.raises(StageError, match="lower --rate"):
        sft.main(command(model, data, tmp_path / "run"))
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_finished_run_is_left_as_it_is(model: Path, data: Path, straight: Path) -> None:
    before = (straight / "report.json").stat().st_mtime_ns
    sft.main(command(model, data, straight))
    assert (straight / "report.json").stat().st_mtime_ns == before


def test_going_on_with_other_settings_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text('{"settings": {"rate": 1.0}, "inputs": {}}')
    with pytest.raises(StageError, match="other settings"):
        sft.main(command(model, data, out))


def test_an_empty_file_is_refused(model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(StageError, match="no row in"):
        sft.main(command(model, empty, tmp_path / "run"))


def test_a_full_disk_ends_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")

    with pytest.raises(SystemExit) as stopped:
        run(fails)
    assert stopped.value.code == 2
    assert "free some space" in capsys.readouterr().err


def test_a_setting_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("learning_rate = 1.0")
    with pytest.raises(SystemExit):
        sft.main(["--config", str(file), "--model", "m", "--data", "d", "--out", "o"])
    assert "learning_rate" in capsys.readouterr().err
