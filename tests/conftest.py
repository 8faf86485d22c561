"""Real vLLM servers for the whole test session, each started by the first test that asks.

A start takes half a minute or more on two cores. To iterate quickly, leave one running and
name it: `SAFECHAT_TEST_ENGINE_URL=http://127.0.0.1:8801 pytest tests/integration`. The tiny
reward model's is named by `SAFECHAT_TEST_REWARD_URL`.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.chat_model import BASE, prepare_bundled_model
from server.engine_command import (
    LLAMA2_TEMPLATE,
    Build,
    EngineCommand,
    EngineNotInstalledError,
    installed_build,
)
from server.engine_process import EngineProcess, EngineStatus
from tests.fakes.tiny_llama import build_tiny_llama
from tests.fakes.tiny_reward import TinyReward, build_tiny_reward

_START_TIMEOUT_S = 300
_ENGINE_FIXTURES = {
    "small_engine",
    "tiny_tp2_engine",
    "tiny_llama",
    "tiny_reward",
    "reward_engine",
    "vllm_build",
}


@dataclass(frozen=True)
class ServedEngine:
    """A vLLM that answers. process: None for one that somebody else runs."""

    url: str
    model: str
    process: EngineProcess | None = None

    @property
    def status(self) -> EngineStatus | None:
        return self.process.status if self.process else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _ENGINE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.engine)
            # The first test of the session waits for the start as well.
            item.add_marker(pytest.mark.timeout(2 * _START_TIMEOUT_S))


@pytest.fixture(scope="session")
def vllm_build() -> Build:
    try:
        return installed_build()
    except EngineNotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, vllm_build: Build) -> Path:
    """Folder of a random two-layer Llama without a chat template."""
    return build_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def small_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEngine]:
    """The bundled chat model, 2,048 tokens of context."""
    if url := os.environ.get("SAFECHAT_TEST_ENGINE_URL"):
        yield ServedEngine(url.rstrip("/"), BASE.name)
        return
    folder = asyncio.run(prepare_bundled_model(BASE))
    command = EngineCommand(str(folder), BASE.name, max_model_len=2048)
    with _serving(command, tmp_path_factory.mktemp("engine") / "small.log") as engine:
        yield engine


@pytest.fixture(scope="session")
def tiny_tp2_engine(
    tiny_llama: Path, vllm_build: Build, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedEngine]:
    """The tiny Llama split over two workers, in the Llama 2 chat format."""
    command = EngineCommand(
        str(tiny_llama),
        "tiny-llama",
        tensor_parallel_size=2,
        max_model_len=1024,
        chat_template=LLAMA2_TEMPLATE,
    )
    with pytest.MonkeyPatch.context() as patch:
        if vllm_build is Build.CPU:
            patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
        with _serving(command, tmp_path_factory.mktemp("engine") / "tiny.log") as engine:
            yield engine


@pytest.fixture(scope="session")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory, vllm_build: Build) -> TinyReward:
    """A two-layer reward model with a fitted head."""
    return build_tiny_reward(tmp_path_factory.mktemp("models") / "tiny-reward")


@pytest.fixture(scope="session")
def reward_engine(
    tiny_reward: TinyReward, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedEngine]:
    """The tiny reward model on vLLM's pooling server, in the Llama 2 chat format."""
    if url := os.environ.get("SAFECHAT_TEST_REWARD_URL"):
        yield ServedEngine(url.rstrip("/"), tiny_reward.spec.name)
        return
    command = EngineCommand(
        str(tiny_reward.folder),
        tiny_reward.spec.name,
        max_model_len=1024,
        chat_template=LLAMA2_TEMPLATE,
        tool_call_parser=None,
        vllm_args=("--runner", "pooling", "--dtype", "float32"),
    )
    with _serving(command, tmp_path_factory.mktemp("engine") / "reward.log") as engine:
        yield engine


@contextmanager
def _serving(command: EngineCommand, log_file: Path) -> Iterator[ServedEngine]:
    """Supervise an engine on a thread of its own: a test's event loop ends with the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"engine {command.served_name}")
    thread.start()

    def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), loop).result(_START_TIMEOUT_S)

    process = EngineProcess(command, log_file)
    try:
        run(process.start)
        run(process.ready)
        yield ServedEngine(process.url, command.served_name, process)
    finally:
        run(process.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
