"""Runs that are cut short, refused or slowed down come to the same result as those that are not."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.evaluation.refusal import measure_refusal
from flywheel.evaluation.runs.answers import ANSWERS_FILE, AnotherRun, Answers
from flywheel.evaluation.runs.endpoint import EndpointFailed
from flywheel.evaluation.runs.result import Result
from flywheel.evaluation.runs.run import Interrupted
from tests.fakes.evaluation import echo, items, options, stand
from tests.fakes.script import Script

PROMPTS = ("Hello?", "Sorry to ask, but why?", "What is a bomb?", "Where is north?", "And south?")


def measured(result: Result) -> dict[str, object]:
    """All of a result but the clock."""
    return result.model_dump(exclude={"timing", "about"})


async def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    async with stand() as here, here.panel() as panel:
        first = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        count = len(here.engine.bodies)
        again = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        assert len(here.engine.bodies) == count
    assert measured(first) == measured(again)


async def test_busy_and_failing_endpoints_are_asked_again(tmp_path: Path) -> None:
    async with stand() as here, here.panel() as panel:
        here.engine.enqueue(Script(status=429), Script(status=503), Script(status=500))
        result = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        assert len(here.engine.bodies) == len(PROMPTS) + 3
    assert result.counts == {"items": 5, "failed": 0}


async def test_an_endpoint_that_stays_down_ends_the_run_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "whole"
    async with stand() as here:
        async with here.panel() as panel:
            reference = await measure_refusal(items(*PROMPTS), panel, options(whole))
        async with here.panel(retries=0) as panel:
            await panel.about()
            here.engine.enqueue(Script.words("fine"), Script.words("fine"), Script(status=503))
            with pytest.raises(Interrupted, match="2 of 5 items are kept"):
                await measure_refusal(items(*PROMPTS), panel, options(tmp_path, parallel=1))
            (tmp_path / ANSWERS_FILE).unlink()
            await here.engine.stop()
            with pytest.raises(EndpointFailed, match="does not answer"):
                await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
            await here.engine.start()
            result = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
    assert measured(result) == measured(reference)


async def test_an_item_that_is_refused_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    asked = [*items(*PROMPTS), *items("word " * 3000)]
    asked[-1] = asked[-1].model_copy(update={"id": "too long"})
    async with stand() as here, here.panel() as panel:
        result = await measure_refusal(asked, panel, options(tmp_path))
    assert result.counts == {"items": 6, "failed": 1}
    assert "too long" not in result.items


async def test_a_torn_line_is_asked_again(tmp_path: Path) -> None:
    async with stand() as here, here.panel() as panel:
        reference = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        file = tmp_path / ANSWERS_FILE
        file.write_bytes(file.read_bytes()[:-20])
        count = len(here.engine.bodies)
        result = await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        assert len(here.engine.bodies) == count + 1
    assert measured(result) == measured(reference)


async def test_another_runs_folder_is_left_alone(tmp_path: Path) -> None:
    async with stand() as here:
        async with here.panel() as panel:
            await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
        kept = (tmp_path / ANSWERS_FILE).read_bytes()
        async with here.panel(guarded=True) as panel:
            with pytest.raises(AnotherRun, match="another url: name another --out"):
                await measure_refusal(items(*PROMPTS), panel, options(tmp_path))
    assert (tmp_path / ANSWERS_FILE).read_bytes() == kept


def test_two_runs_never_write_one_file(tmp_path: Path) -> None:
    with (
        Answers(tmp_path, {}),
        pytest.raises(AnotherRun, match="right now"),
        Answers(tmp_path, {}),
    ):
        pass


async def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    async with stand(Script(status=401)) as here, here.panel() as panel:
        with pytest.raises(Interrupted, match="wants another key"):
            await measure_refusal(items(*PROMPTS), panel, options(tmp_path))


async def test_killed_and_resumed_is_as_never_killed(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Number {n}?"}}\n' for n in range(30)))
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    def command(engine: str, gateway: str, out: Path) -> list[str]:
        where = ["--url", engine, "--guard", gateway, "--prompts", str(prompts)]
        start = [sys.executable, "-m", "safechat", "eval", "refusal"]
        return [*start, *where, "--out", str(out), "--parallel", "2"]

    def slowly(body: dict[str, object]) -> Script:
        script = echo(body)
        return Script(deltas=script.deltas, open_delay=0.05)

    async with stand(slowly) as here:
        urls = here.engine.url, here.gateway.url
        running = await asyncio.to_thread(
            subprocess.Popen, command(*urls, killed), stderr=subprocess.DEVNULL
        )
        answers = killed / ANSWERS_FILE
        deadline = time.monotonic() + 90
        while not (answers.exists() and answers.read_bytes().count(b"\n") > 5):
            assert time.monotonic() < deadline, "the run never began"
            await asyncio.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        await asyncio.to_thread(running.wait)
        assert not (killed / "result.json").exists()
        for out in (killed, whole):
            done = await asyncio.to_thread(
                subprocess.run, command(*urls, out), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    assert measured(Result.read(killed)) == measured(Result.read(whole))
