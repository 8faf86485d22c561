"""GRPO with the same reward: two steps on a tiny Llama. TRL's trainer loads vLLM, in 30 s."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.training.chat.files import write_rows
from server.engine_command import LLAMA2_TEMPLATE
from tests.fakes.tiny_llama import build_tiny_llama

pytestmark = [pytest.mark.verify, pytest.mark.timeout(300)]
SCRIPT = (
    "import sys; from tests.fakes.training_judge import word_judge;"
    "from flywheel.training.chat import grpo; from flywheel.training.chat.judge import Judge;"
    "Judge.load = lambda settings: word_judge({}, {'e': 0.9, '': 0.1}); grpo.main(sys.argv[1:])"
)


def test_two_steps_leave_an_adapter_and_the_mean_reward(tmp_path: Path) -> None:
    model = build_tiny_llama(tmp_path / "tiny")
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"What is {n}?", "harmful": 0, "split": "train"} for n in range(8)]
    write_rows(prompts, rows)
    asked = ["--model", str(model), "--prompts", str(prompts), "--template", str(LLAMA2_TEMPLATE)]
    small = ["--batch", "4", "--micro-batch", "4", "--group", "2", "--tokens", "4"]
    small += ["--lora-rank", "4", "--max-steps", "2", "--save-every", "1"]
    out = tmp_path / "run"
    subprocess.run([sys.executable, "-c", SCRIPT, *asked, *small, "--out", str(out)], check=True)
    report = json.loads((out / "report.json").read_text())
    assert len(report["mean_reward"]) == 2
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
