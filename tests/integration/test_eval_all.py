"""`safechat eval all`: all evaluations one after another, killed in the middle and called again."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from importlib.resources import files
from pathlib import Path
from typing import Self

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from flywheel.evaluation.runs.items import read_items
from flywheel.evaluation.runs.result import Kind, Result
from guard.hazards import Hazard
from safechat.__main__ import app
from safechat.evaluation import bundled
from safechat.evaluation.plan import Other, Plan
from server.engine_command import EngineCommand
from server.engine_process import free_port
from tests.fakes.evaluation import stand
from tests.fakes.scripted_engine import ScriptedEngine

MEASURED = ("safety", "refusal", "benchmarks", "redteam", "helpfulness", "refusal-against")


def test_the_starter_set_has_prompts_of_every_role() -> None:
    path = files("flywheel.evaluation") / "starters.jsonl"
    assert isinstance(path, Path)
    rows = read_items([path])
    adversarial = [row for row in rows if row.role == "adversarial"]
    assert all(len(row.turns) > 1 for row in adversarial)
    assert {row.category for row in adversarial} <= set(Hazard)
    for role in ("harmless", "borderline"):
        assert len(read_items([path], roles=[role])) == 30


@pytest.mark.parametrize("data", [None, Path("benchmarks")])
def test_each_step_is_a_command_with_a_folder_of_its_own(data: Path | None) -> None:
    plan = Plan(
        out=Path("o"),
        url="http://new",
        prompts=[Path("p")],
        limit=12,
        against=Other("http://old", "m"),
        data=data,
        rows={"--split": ["test", "dev"], "--source": None},
    )
    steps = plan.steps()
    folders = [step.words[step.words.index("--out") + 1] for step in steps[:6]]
    assert folders == [f"o/{name}" for name in MEASURED]
    theirs = " ".join(steps[5].words)
    assert "--url http://old --model m --guard http://new" in theirs
    assert "--limit 12 --split test --split dev" in theirs
    assert "--source" not in theirs
    assert ("--task gsm8k" in " ".join(steps[2].words)) is (data is not None)
    assert "--limit 2" in " ".join(steps[3].words)
    assert steps[-1].words == ("report", *folders[:5], "--out", "o/card")


def test_without_another_endpoint_nothing_is_compared() -> None:
    steps = Plan(out=Path("o"), url="http://new", prompts=[Path("p")], limit=1).steps()
    assert [step.words[1] for step in steps[:-1]] == ["safety", "refusal", "benchmarks", "run"]


async def started(out: Path, *options: str) -> Process:
    words = ["eval", "all", "--out", str(out), "--limit", "1", "--max-tokens", "16", *options]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "safechat", *words, stdout=PIPE, stderr=PIPE
    )


@pytest.mark.timeout(400)  # ten processes, which load much
async def test_killed_and_called_again_it_goes_on_and_ends_with_a_card(tmp_path: Path) -> None:
    def kept(name: str) -> bytes:
        path = tmp_path / name / "answers.jsonl"
        return path.read_bytes() if path.is_file() else b""

    async with stand() as here:
        whom = ("--url", here.gateway.url, "--against", here.engine.url)
        first = await started(tmp_path, *whom)
        give_up = time.monotonic() + 180
        while kept("refusal").count(b"\n") < 2:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)
        first.kill()
        await first.communicate()
        safety = kept("safety")
        second = await started(tmp_path, *whom)
        _, err = await second.communicate()
    assert second.returncode == 0, err.decode()
    assert kept("safety") == safety
    assert "7 of 8: safechat eval regress" in err.decode()
    found = [Result.read(tmp_path / name) for name in MEASURED]
    assert {result.kind for result in found} == set(Kind)
    document = orjson.loads((tmp_path / "refusal" / "result.json").read_bytes())
    assert document["about"]["command"].startswith("safechat eval refusal --url")
    card = (tmp_path / "card" / "card.md").read_text("utf-8")
    for title in ("Safety", "False refusals", "Helpfulness", "Benchmarks", "Red teaming"):
        assert f"## {title}" in card


async def test_a_step_that_fails_ends_it_and_says_how_to_go_on(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    ended = await started(tmp_path, "--url", "http://127.0.0.1:9", "--prompts", str(empty))
    _, err = await ended.communicate()
    assert ended.returncode == 2
    assert f"{empty}: no rows of the roles adversarial" in err.decode()
    assert "eval safety ended with status 2; the same command goes on from there" in err.decode()


def test_names_without_an_address_are_refused(tmp_path: Path) -> None:
    words = ["eval", "all", "--out", str(tmp_path), "--against", "http://old"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2
    assert "go with --url" in ended.stderr


class Standing:
    """In place of vLLM as our child: an engine that stands already."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.url = engine.url
        self.ports: list[int] = []

    def __call__(self, command: EngineCommand, log_file: Path, *, port: int) -> Self:
        self.ports.append(port)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def ready(self) -> None:
        return


async def test_its_own_gateway_comes_up_where_it_was_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepared(model: object, **told: object) -> Path:
        return tmp_path

    async with ScriptedEngine() as engine, httpx.AsyncClient(trust_env=False) as client:
        standing = Standing(engine)
        monkeypatch.setattr(bundled, "EngineProcess", standing)
        monkeypatch.setattr(bundled, "prepare_bundled_model", prepared)
        urls = []
        for _ in range(2):
            async with bundled.bundled_system(tmp_path) as (url, bare):
                assert bare == engine.url
                assert (await client.get(f"{url}/v1/models")).is_success
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}/healthz")
            urls.append(url)
    assert len(standing.ports) == 2
    assert len(set(standing.ports)) == len(set(urls)) == 1
    assert (tmp_path / "journal").is_dir()


async def test_a_gateway_that_cannot_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFECHAT_GUARD__MODELS", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"the gateway does not start: see .*gateway\.log"):
        async with bundled._gateway("http://127.0.0.1:9", free_port(), tmp_path):
            pass
