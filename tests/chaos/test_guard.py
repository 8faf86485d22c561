"""The guard is slow, wrong or dead: what it did not judge is not shown, or is flagged."""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from guard.reward.batcher import Batcher
from guard.types import Axis, GuardTimeout, Message, Sample, Score
from tests.chaos.house import House, ways
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import BAD_STORY, STORY
from tests.fakes.scorer import WordRewardModel
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

STREAMS = 24
PATIENCE_S = 1.0


class SickModel(WordRewardModel):
    """Now and then slow, or wrong in one of the ways in which a model can be."""

    def __init__(self, axis: Axis, chance: random.Random, illness: float) -> None:
        super().__init__(axis)
        self.illness = illness
        self._chance = chance

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        scores = super().score(samples)
        if self._chance.random() >= self.illness:
            return scores
        match self._chance.randrange(5):
            case 0:
                time.sleep(2 * PATIENCE_S * self._chance.random())
                return scores
            case 1:
                raise MemoryError("sick")
            case 2:
                return scores[1:]
            case 3:
                return [Score(s.axis, math.nan, s.reward, s.model) for s in scores]
            case _:
                return [Score(s.axis, 1.0 + s.value, s.reward, s.model) for s in scores]


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_sick_guard_lets_nothing_through_unless_told_to_and_then_flags_it(
    tmp_path: Path, seed: int, fail_open: bool
) -> None:
    chance = random.Random(seed)
    models = {axis: SickModel(axis, chance, illness=0.2) for axis in Axis}
    replies = [Script.words(STORY, delay=0.001), Script.words(BAD_STORY[:400], delay=0.001)]
    async with (
        ScriptedEngine(lambda body: chance.choice(replies)) as engine,
        Batcher(models, timeout_s=PATIENCE_S, max_batch=4) as batcher,
        House.open(engine.url, batcher, tmp_path, fail_open=fail_open) as house,
    ):
        ended = ways(await house.crowd(STREAMS))
        for model in models.values():
            model.illness = 0.0
        await _well(batcher)
        well = ways(await house.crowd(STREAMS))
        outcomes = await house.settled()
    assert set(well) <= {"stop", "content_filter"}
    assert set(ended) <= {"stop", "content_filter", "guard_error"}
    assert outcomes["guard_failed"] == ended["guard_error"]
    assert fail_open or ended["guard_error"]


async def _well(batcher: Batcher) -> None:
    """The worker may still be in a slow answer that nobody waits for any more."""
    for axis in Axis:
        with suppress(GuardTimeout):
            await batcher.submit(axis, Sample((Message("user", "Hello."),), "Hello."))


async def test_a_guard_that_dies_in_mid_stream_ends_every_stream_in_words(tmp_path: Path) -> None:
    models = {axis: SickModel(axis, random.Random(0), illness=0.0) for axis in Axis}
    async with (
        ScriptedEngine(Script.words(STORY, delay=0.005)) as engine,
        Batcher(models, timeout_s=PATIENCE_S) as batcher,
        House.open(engine.url, batcher, tmp_path) as house,
    ):
        talking = asyncio.create_task(house.crowd(STREAMS))
        await asyncio.sleep(0.3)
        await batcher.__aexit__()
        assert set(ways(await talking)) <= {"guard_error"}
        assert ways(await house.crowd(2)) == {"guard_error": 2}
        assert await house.settled() == {"guard_failed": STREAMS + 2}
