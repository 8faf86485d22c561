"""Two runs with one seed agree in every figure, item by item, whatever the order of the answers."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flywheel.evaluation.benchmarks.measure import measure_benchmarks, tasks
from flywheel.evaluation.helpfulness.compare import measure_helpfulness
from flywheel.evaluation.panel import Panel, RunOptions
from flywheel.evaluation.redteam.attacker import Attacker
from flywheel.evaluation.redteam.campaign import attack
from flywheel.evaluation.redteam.strategies import strategies
from flywheel.evaluation.refusal import measure_refusal
from flywheel.evaluation.runs.answers import kept_rows
from flywheel.evaluation.runs.result import Result
from flywheel.evaluation.safety import measure_safety
from tests.fakes.evaluation import echo, items, options, stand
from tests.fakes.script import Script
from tests.fakes.vllm_wire import Body

PROMPTS = items(*(f"Is number {n} a bomb?" if n % 3 else f"Sorry, {n}?" for n in range(24)))
Measure = Callable[[Panel, RunOptions], Awaitable[Result]]


def unhurried(body: Body) -> Script:
    """The same words for the same request, after a wait that no two runs share."""
    return replace(echo(body), open_delay=random.uniform(0, 0.03))


async def helpfulness(panel: Panel, told: RunOptions) -> Result:
    return await measure_helpfulness(PROMPTS, panel, panel.target, told)


async def benchmarks(panel: Panel, told: RunOptions) -> Result:
    return await measure_benchmarks(tasks(["bias"]), panel, told, limit=24)


async def redteam(panel: Panel, told: RunOptions) -> Result:
    leader = Attacker(panel.target)
    tried = strategies(["plain", "escalation", "base64"])
    return await attack(PROMPTS[:8], tried, panel, told, attacker=leader)


MEASURES: dict[str, Measure] = {
    "safety": lambda panel, told: measure_safety(PROMPTS, panel, told),
    "refusal": lambda panel, told: measure_refusal(PROMPTS, panel, told),
    "helpfulness": helpfulness,
    "benchmarks": benchmarks,
    "redteam": redteam,
}


def answers(folder: Path) -> dict[str, Any]:
    """All rows without what the clock wrote into them, in whatever order they were done."""
    return {
        id: {name: value for name, value in row.items() if name != "seconds"}
        for id, row in kept_rows(folder).items()
    }


@pytest.mark.parametrize("name", MEASURES)
async def test_eight_at_a_time_in_any_order(name: str, tmp_path: Path) -> None:
    async with stand(unhurried) as here, here.panel(judge=here.engine.url) as panel:
        one, two, alone = [
            await MEASURES[name](panel, options(tmp_path / folder, seed=7, parallel=parallel))
            for folder, parallel in (("one", 8), ("two", 8), ("alone", 1))
        ]
    assert one.model_dump(exclude={"timing"}) == two.model_dump(exclude={"timing"})
    assert one.model_dump(exclude={"timing"}) == alone.model_dump(exclude={"timing"})
    assert answers(tmp_path / "one") == answers(tmp_path / "two") == answers(tmp_path / "alone")
    assert list(kept_rows(tmp_path / "one")) != list(kept_rows(tmp_path / "two"))
