"""A gateway that is told to stop, or killed, under 32 streams."""

import asyncio
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from flywheel.journal import entries
from flywheel.store import open_journal
from server.sse import SseDecoder
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import STORY, ask
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.served_gateway import gateway_before

STREAMS = 32
DRAIN_S = 5
SHORT, ENDLESS = "Tell me a story.", "Tell me a story without an end."
_TEXT = re.compile(rb'"content":"[^"]')


@dataclass
class Client:
    """What one client saw of its stream so far."""

    prompt: str
    turn_id: str = ""
    how: str = "broken"
    payloads: list[bytes] = field(default_factory=list)

    @property
    def has_text(self) -> bool:
        return any(_TEXT.search(payload) for payload in self.payloads)

    async def talk(self, url: str) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            try:
                async with client.stream(
                    "POST", f"{url}/v1/chat/completions", json=ask(self.prompt, stream=True)
                ) as response:
                    assert response.status_code == 200, await response.aread()
                    self.turn_id = response.headers["x-safechat-turn-id"]
                    decoder = SseDecoder()
                    async for data in response.aiter_raw():
                        self.payloads += decoder.feed(data)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                return
        if self.payloads and self.payloads[-1] == b"[DONE]":
            last = orjson.loads(self.payloads[-2])
            self.how = last["error"]["type"] if "error" in last else "completed"


def replies(
    chance: random.Random, pause: asyncio.Event | None = None
) -> Callable[[dict[str, Any]], Script]:
    """Short ones, each at its own speed and maybe with a pause, and some that never end."""

    def reply(body: dict[str, Any]) -> Script:
        if body["messages"][-1]["content"] == ENDLESS:
            return Script.words(STORY[:200], ending=Ending.STALL)
        return Script.words(STORY, delay=chance.choice([0, 0.002, 0.008]), pause=pause)

    return reply


async def outcomes_of(folder: Path) -> dict[str, str]:
    """Outcome by turn id, of all turns that the journal has."""
    async with open_journal(folder) as journal:
        return {
            entry.record.turn_id: entry.record.outcome.value async for entry in entries(journal)
        }


@pytest.mark.parametrize("seed", SEEDS)
async def test_sigterm_lets_streams_end_in_time_stops_the_rest_in_words_and_records_all(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    go_on = asyncio.Event()
    async with (
        ScriptedEngine(replies(chance, go_on)) as engine,
        gateway_before(engine.url, tmp_path, drain_s=DRAIN_S) as served,
    ):
        clients = [Client(chance.choice([SHORT, ENDLESS])) for _ in range(STREAMS)]
        talking = [asyncio.create_task(client.talk(served.url)) for client in clients]
        async with asyncio.timeout(30):
            while not all(client.has_text for client in clients):
                await asyncio.sleep(0.01)
        told = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(_until_refused, served.url)
        go_on.set()
        await asyncio.gather(*talking)
        assert time.monotonic() - told >= DRAIN_S
        assert await asyncio.to_thread(served.process.wait, 20) == -signal.SIGTERM
        await engine.idle()
    ends = Counter((client.prompt, client.how) for client in clients)
    assert set(ends) == {(SHORT, "completed"), (ENDLESS, "engine_unavailable")}
    named = {"completed": "completed", "engine_unavailable": "engine_failed"}
    assert await outcomes_of(tmp_path) == {one.turn_id: named[one.how] for one in clients}


def _until_refused(url: str) -> None:
    """Connect until nobody listens there any more."""
    address = urlsplit(url).hostname, urlsplit(url).port
    give_up = time.monotonic() + DRAIN_S
    while time.monotonic() < give_up:
        try:
            with closing(create_connection(address)):
                time.sleep(0.02)
        except ConnectionRefusedError:
            return
    raise AssertionError(f"{url} still takes connections")


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_killed_gateway_has_every_turn_whose_end_was_seen(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ScriptedEngine(replies(chance)) as engine,
        gateway_before(engine.url, tmp_path, drain_s=DRAIN_S) as served,
    ):
        clients = [Client(chance.choice([SHORT, ENDLESS])) for _ in range(STREAMS)]
        talking = [asyncio.create_task(client.talk(served.url)) for client in clients]
        await asyncio.wait(talking, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(chance.uniform(0, 0.5))
        served.process.kill()
        await asyncio.gather(*talking)
        await engine.idle()
    completed = {client.turn_id for client in clients if client.how == "completed"}
    assert {client.how for client in clients} == {"completed", "broken"}
    kept = await outcomes_of(tmp_path)
    assert completed <= {turn for turn, outcome in kept.items() if outcome == "completed"}
