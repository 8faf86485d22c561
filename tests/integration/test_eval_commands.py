"""`safechat eval`, `redteam` and `report` as a person calls them."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel.evaluation.runs.result import Kind, Result, Values
from safechat.__main__ import app
from tests.fakes.evaluation import stand


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


async def called(*arguments: str | Path) -> Ended:
    """In a process of its own, so that its event loop is its own too."""
    command = [sys.executable, "-m", "safechat", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "A bomb?"}\n{"prompt": "Hello?"}\n', encoding="utf-8")
    return path


async def test_from_a_run_to_a_card(tmp_path: Path, prompts: Path) -> None:
    async with stand() as here:
        url, bare = here.gateway.url, here.engine.url
        safety, redteam = tmp_path / "safety", tmp_path / "redteam"
        asked = await called(
            *("eval", "safety", "--url", bare, "--guard", url),
            *("--prompts", prompts, "--out", safety, "--json"),
        )
        command = ["redteam", "run", "--url", url, "--seeds", str(prompts), "--strategy", "plain"]
        attacked = await asyncio.to_thread(
            CliRunner().invoke, app, [*command, "--out", str(redteam)]
        )
    assert asked.status == 0, asked.err
    document = json.loads(asked.out)
    assert document["figures"]["violation"]["value"] == 0.5
    assert document == json.loads((safety / "result.json").read_bytes())
    assert document["about"]["command"].startswith("safechat eval safety --url")
    assert document["about"]["files"][0]["file"] == "prompts.jsonl"
    assert (safety / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert attacked.exit_code == 0, attacked.stderr
    assert "attempts that succeed" in attacked.stdout
    results = [str(safety), str(redteam), "--out", str(tmp_path / "card")]
    card = CliRunner().invoke(app, ["report", *results])
    assert card.exit_code == 0, card.stderr
    assert "Red teaming" in (tmp_path / "card" / "card.md").read_text("utf-8")


async def test_an_address_where_nobody_is_ends_with_status_2(
    tmp_path: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.evaluation.runs.endpoint.RETRIES", 0)
    where = ["--url", "http://127.0.0.1:9", "--prompts", str(prompts), "--out", str(tmp_path / "o")]
    ended = await asyncio.to_thread(CliRunner().invoke, app, ["eval", "refusal", *where])
    assert ended.exit_code == 2
    assert "http://127.0.0.1:9 does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


def result(folder: Path, values: list[float]) -> Path:
    items = {str(n): Values(group=str(n), values={"helpfulness": v}) for n, v in enumerate(values)}
    folder.mkdir()
    Result(kind=Kind.REFUSAL, about={}, figures={}, items=items).write(folder)
    return folder


@pytest.mark.parametrize(
    ("after", "options", "status"),
    [
        ([0.9] * 20, [], 0),
        ([0.5] * 20, [], 1),
        ([0.5] * 20, ["--worse-by", "helpfulness=0.5"], 0),
        ([0.5] * 20, ["--worse-by", "helpfulness"], 2),
        ([0.5] * 20, ["--worse-by", "gsm8k=0"], 2),
    ],
)
def test_the_exit_status_says_whether_it_is_worse(
    tmp_path: Path, after: list[float], options: list[str], status: int
) -> None:
    before, candidate = result(tmp_path / "a", [0.9] * 20), result(tmp_path / "b", after)
    command = ["eval", "regress", str(before), str(candidate), "--json", *options]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == status, ended.output
    if status < 2:
        assert json.loads(ended.stdout)["worse"] == ["helpfulness"] * status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "safety", "--url", "x", "--prompts", "{p}", "--out", "{o}"], "http://"),
        (["eval", "safety", "--url", "http://x", "--prompts", "gone", "--out", "{o}"], "gone"),
        (["eval", "benchmarks", "--url", "http://x", "--out", "{o}"], "name a --task"),
        (["eval", "benchmarks", "--url", "http://x", "--out", "{o}", "--task", "go"], "there are"),
        (["redteam", "run", "--url", "http://x", "--out", "{o}", "--strategy", "y"], "there are"),
        (["report", "gone", "--out", "{o}"], "there is no result gone"),
    ],
)
def test_bad_input_ends_with_status_2_and_says_why(
    tmp_path: Path, prompts: Path, arguments: list[str], words: str
) -> None:
    filled = [argument.format(p=prompts, o=tmp_path / "out") for argument in arguments]
    ended = CliRunner().invoke(app, filled)
    assert ended.exit_code == 2, ended.output
    assert words in ended.stderr


@pytest.mark.parametrize(
    "command", ["eval safety", "eval refusal", "eval helpfulness", "eval benchmarks", "redteam run"]
)
def test_help_shows_a_whole_command(command: str) -> None:
    text = CliRunner().invoke(app, [*command.split(), "--help"]).stdout
    assert f"safechat {command} --url http" in text


def test_strategies_are_listed() -> None:
    assert "forged_chatml" in CliRunner().invoke(app, ["redteam", "strategies"]).stdout
