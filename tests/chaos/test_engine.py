"""The engine dies, freezes, or says nonsense: every stream ends in words, and all is counted."""

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.house import House, ways
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import STORY
from tests.fakes.scorer import ScriptedScorer
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import GARBAGE, error_event
from tests.free_engine import MODEL, EngineProcess

STREAMS = 24
ROUNDS = 3
TROUBLE = {"engine_error", "engine_timeout", "engine_unavailable"}


@pytest.fixture
def engine_process() -> Iterator[EngineProcess]:
    with EngineProcess() as engine:
        yield engine


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_engine_that_is_killed_costs_its_streams_and_nothing_else(
    engine_process: EngineProcess, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with House.open(engine_process.url, ScriptedScorer(), tmp_path, model=MODEL) as house:
        talking = asyncio.create_task(house.crowd(STREAMS))
        await asyncio.sleep(chance.uniform(0.2, 1))
        engine_process.kill()
        ended = ways(await talking)
        assert set(ended) <= TROUBLE | {"stop"}
        assert ways(await house.crowd(2)) == {"engine_unavailable": 2}
        await asyncio.to_thread(engine_process.start)
        assert ways(await house.crowd(STREAMS)) == {"stop": STREAMS}
        outcomes = await house.settled()
    assert outcomes["completed"] == STREAMS + ended["stop"]
    assert set(outcomes) <= {"completed", "engine_failed"}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_frozen_engine_is_given_up_and_taken_back(
    engine_process: EngineProcess, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with House.open(engine_process.url, ScriptedScorer(), tmp_path, model=MODEL) as house:
        talking = asyncio.create_task(house.crowd(STREAMS))
        await asyncio.sleep(chance.uniform(0.2, 1))
        engine_process.freeze()
        ended = ways(await talking)
        assert set(ended) <= {"engine_timeout", "stop"}
        assert ways(await house.crowd(2)) == {"engine_timeout": 2}
        engine_process.thaw()
        assert ways(await house.crowd(STREAMS)) == {"stop": STREAMS}
        outcomes = await house.settled()
    assert outcomes == {
        "completed": STREAMS + ended["stop"],
        "engine_failed": 2 + ended["engine_timeout"],
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_an_engine_does_to_its_stream_is_told_or_harmless(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(lambda body: trouble(chance)) as engine,
        House.open(engine.url, ScriptedScorer(), tmp_path) as house,
    ):
        ended = ways([end for _ in range(ROUNDS) for end in await house.crowd(STREAMS)])
        outcomes = await house.settled()
        await engine.idle()
    # A damaged stream may still read as one that the engine cut short or refused.
    assert set(ended) <= TROUBLE | {"stop", "length", "invalid_request_error"}
    assert ended.keys() & TROUBLE
    assert ended["stop"] + ended["length"] == outcomes["completed"]
    assert set(outcomes) <= {"completed", "engine_failed", "rejected"}


def trouble(chance: random.Random) -> Script:
    """A reply with something wrong with it, or slow."""
    words = STORY.split(" ")
    cut = " ".join(words[: chance.randrange(1, len(words))])
    kinds: list[Callable[[], Script]] = [
        lambda: Script.words(STORY, delay=chance.uniform(0, 0.01)),
        lambda: Script.words(cut, ending=chance.choice(list(Ending))),
        lambda: Script.words(cut, tail=chance.choice([error_event(), GARBAGE])),
        lambda: Script(status=chance.choice([400, 404, 429, 500, 503])),
        lambda: Script(status=500, error=b"<html>Bad gateway</html>"),
        lambda: Script.words(STORY, split=corrupter(chance), split_whole=True),
    ]
    return chance.choice(kinds)()


def corrupter(chance: random.Random) -> Any:
    """Damages some bytes of a stream, loses others, and cuts it anywhere."""

    def corrupt(data: bytes) -> Iterator[bytes]:
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged))
            if chance.random() < 0.5:
                damaged[at] = chance.randrange(256)
            else:
                del damaged[at : at + chance.randrange(1, 40)]
        size = chance.randrange(1, 900)
        return (bytes(damaged[at : at + size]) for at in range(0, len(damaged), size))

    return corrupt
