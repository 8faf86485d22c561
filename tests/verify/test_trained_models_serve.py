"""What training leaves is what vLLM loads: an adapter, and a reward model."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from flywheel.training.chat.files import write_rows
from guard.reward.remote import RemoteScorer
from guard.reward.spec import load_spec
from guard.types import Axis, Message, Sample
from server.engine import VllmEngine
from server.engine_command import LLAMA2_TEMPLATE, Build, EngineCommand
from server.engine_process import EngineProcess
from server.settings import EngineSettings
from tests.fakes.tiny_llama import build_tiny_llama

pytestmark = [pytest.mark.verify, pytest.mark.timeout(900)]
ASKED = [{"role": "user", "content": "What is a wizard?"}]
GOOD, BAD = "the lazy dog", "the brown fox"


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def stage(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


@asynccontextmanager
async def serving(command: EngineCommand, log: Path) -> AsyncIterator[str]:
    process = EngineProcess(command, log)
    async with process:
        await asyncio.wait_for(process.ready(), 400)
        yield process.url


async def test_an_adapter_of_sft_is_loaded_while_vllm_serves(
    tmp_path: Path, vllm_build: Build
) -> None:
    model = build_tiny_llama(tmp_path / "tiny-llama")
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": ASKED, "completion": said(GOOD)}] * 8)
    stage(
        "flywheel.training.chat.sft", "--model", model, "--data", rows, "--out", tmp_path / "run",
        "--template", LLAMA2_TEMPLATE, "--rate", "2e-2", "--batch", "4", "--length", "128",
        "--lora-rank", "8", "--max-steps", "60",
    )  # fmt: skip
    command = EngineCommand(str(model), "tiny-llama", max_model_len=512, max_lora_rank=8,
                            tool_call_parser=None)  # fmt: skip
    async with (
        serving(command, tmp_path / "engine.log") as url,
        VllmEngine(url, EngineSettings()) as engine,
        aiohttp.ClientSession() as session,
    ):
        await engine.load_adapter("safechat-V1", str(tmp_path / "run" / "adapter"))
        assert await engine.served() == {"tiny-llama", "safechat-V1"}
        replies = {}
        for name in ("tiny-llama", "safechat-V1"):
            body = {"model": name, "messages": ASKED, "temperature": 0, "max_tokens": 8}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                choice = (await answer.json())["choices"][0]
                replies[name] = choice["message"]["content"].strip()
        await engine.unload_adapter("safechat-V1")
        assert await engine.served() == {"tiny-llama"}
    assert replies["safechat-V1"] == GOOD
    assert replies["tiny-llama"] != GOOD


async def test_a_llama_reward_model_is_served_and_read_by_the_guard(
    tmp_path: Path, vllm_build: Build
) -> None:
    model = build_tiny_llama(tmp_path / "tiny-llama")
    labels = tmp_path / "labels.jsonl"
    rows = [{"prompt": ASKED, "completion": said(t), "label": t == GOOD} for t in (GOOD, BAD)]
    write_rows(labels, rows * 30)
    stage(
        "flywheel.training.llama_reward", "--axis", "safety", "--model", model, "--labels", labels,
        "--name", "tiny", "--out", tmp_path / "run", "--rate", "1e-2", "--batch", "8",
        "--lora-rank", "4", "--max-steps", "20", "--dev-share", "0.3",
    )  # fmt: skip
    folder = tmp_path / "run" / "model"
    command = EngineCommand(str(folder), "tiny", max_model_len=512, chat_template=LLAMA2_TEMPLATE,
                            tool_call_parser=None,
                            vllm_args=("--runner", "pooling", "--dtype", "float32"))  # fmt: skip
    asked = (Message("user", ASKED[0]["content"]),)
    async with (
        serving(command, tmp_path / "engine.log") as url,
        RemoteScorer(url, load_spec(folder / "spec.toml"), timeout_s=60) as scorer,
    ):
        good, bad = [
            await scorer.submit(Axis.SAFETY, Sample(asked, text, whole=True))
            for text in (GOOD, BAD)
        ]
    assert good.value > 0.5 > bad.value
    assert good.model == "tiny@1"
