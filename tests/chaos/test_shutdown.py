"""A gateway that is told to stop, or killed, under 32 streams."""

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest

from flywheel.journal import entries
from flywheel.store import open_journal
from server.sse import SseDecoder
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import STORY, ask
from tests.fakes.scripted_engine import Script, ScriptedEngine
from tests.served_gateway import gateway_before

STREAMS = 32
DRAIN_S = 1


@dataclass
class Seen:
    """What one client saw of a stream."""

    turn_id: str = ""
    how: str = "broken"
    payloads: list[bytes] = field(default_factory=list)


async def talk(url: str) -> Seen:
    seen = Seen()
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        try:
            async with client.stream(
                "POST", f"{url}/v1/chat/completions", json=ask(stream=True)
            ) as response:
                seen.turn_id = response.headers["x-safechat-turn-id"]
                if response.status_code != 200:
                    seen.how = orjson.loads(await response.aread())["error"]["type"]
                    return seen
                decoder = SseDecoder()
                async for data in response.aiter_raw():
                    seen.payloads += decoder.feed(data)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            return seen
    if seen.payloads and seen.payloads[-1] == b"[DONE]":
        last = orjson.loads(seen.payloads[-2])
        seen.how = last["error"]["type"] if "error" in last else "completed"
    return seen


async def outcomes_of(folder: Path) -> dict[str, str]:
    """Outcome by turn id, of all turns that the journal has."""
    async with open_journal(folder) as journal:
        return {
            entry.record.turn_id: entry.record.outcome.value async for entry in entries(journal)
        }


def uneven(chance: random.Random) -> Script:
    """Some replies end before the shutdown, some while it drains, some would not."""
    return Script.words(STORY, delay=chance.choice([0.002, 0.008, 0.1]))


@pytest.mark.parametrize("seed", SEEDS)
async def test_sigterm_under_streams_ends_each_in_words_and_records_all(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(lambda body: uneven(chance)) as engine,
        gateway_before(engine.url, tmp_path, drain_s=DRAIN_S) as served,
    ):
        talking = [asyncio.create_task(talk(served.url)) for _ in range(STREAMS)]
        await _until_all_run(engine)
        await asyncio.sleep(chance.uniform(0, 0.5))
        served.process.send_signal(signal.SIGTERM)
        seen = await asyncio.gather(*talking)
        assert await asyncio.to_thread(served.process.wait, DRAIN_S + 20) == -signal.SIGTERM
        await engine.idle()
    ends = Counter(one.how for one in seen)
    assert set(ends) <= {"completed", "engine_unavailable"}
    kept = await outcomes_of(tmp_path)
    named = {"completed": "completed", "engine_unavailable": "engine_failed"}
    assert kept == {one.turn_id: named[one.how] for one in seen}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_killed_gateway_has_every_turn_whose_end_was_seen(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(lambda body: uneven(chance)) as engine,
        gateway_before(engine.url, tmp_path, drain_s=DRAIN_S) as served,
    ):
        talking = [asyncio.create_task(talk(served.url)) for _ in range(STREAMS)]
        await _until_all_run(engine)
        await asyncio.sleep(chance.uniform(0, 0.5))
        served.process.kill()
        seen = await asyncio.gather(*talking)
        await engine.idle()
    completed = {one.turn_id for one in seen if one.how == "completed"}
    assert {one.how for one in seen} <= {"completed", "broken"}
    kept = await outcomes_of(tmp_path)
    assert completed <= {turn for turn, outcome in kept.items() if outcome == "completed"}


async def _until_all_run(engine: ScriptedEngine) -> None:
    async with asyncio.timeout(20):
        while len(engine.bodies) < STREAMS:
            await asyncio.sleep(0.01)
