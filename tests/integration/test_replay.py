"""The shipped reward models judge replayed replies alike, streamed or not, whatever the chunks."""

import asyncio
import json
import random
from pathlib import Path

import httpx
import pytest

import flywheel.training.contrast
from server.settings import GuardSettings, JournalSettings, Settings
from tests.fakes.chat import ask, folded, stream
from tests.fakes.gateway import client_for, run_gateway
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import Body

PROSE = Path(flywheel.training.contrast.__file__).with_name("prose.jsonl")


def replies(count: int, seed: int = 11) -> list[str]:
    """Our own texts as replies, by turns harmless short ones and harmful long ones."""
    rows = [json.loads(line) for line in PROSE.read_text(encoding="utf-8").splitlines()]
    pools = [sorted({r["prompt"] for r in rows if r["harmful"] == harm}) for harm in (0, 1)]
    chance = random.Random(seed)
    return [" ".join(chance.sample(pools[i % 2], 1 + i % 2 * 3)) for i in range(count)]


def chunked(text: str, chance: random.Random) -> Script:
    pieces, at = [], 0
    while at < len(text):
        size = chance.randrange(1, 40)
        pieces.append(text[at : at + size])
        at += size
    return Script(deltas=(tuple(pieces),), delay=chance.choice((0.0, 0.0, 0.001)))


@pytest.mark.parametrize(
    "count",
    [pytest.param(8), pytest.param(200, marks=[pytest.mark.verify, pytest.mark.timeout(0)])],
)
async def test_streamed_and_unstreamed_replies_agree_to_the_character_under_load(
    count: int,
) -> None:
    chance, texts = random.Random(5), replies(count)

    def script(body: Body) -> Script:
        return chunked(texts[int(body["messages"][-1]["content"].split()[-1])], chance)

    guard = GuardSettings(timeout_s=60)  # the machine may be busy
    settings = Settings(guard=guard, journal=JournalSettings(enabled=False))
    async with (
        ScriptedEngine(script) as engine,
        run_gateway(settings, engine_url=engine.url) as gateway,
        client_for(gateway) as client,
    ):
        client.timeout = httpx.Timeout(120)
        at_once = asyncio.Semaphore(8)

        async def both(index: int) -> str:
            body = ask(f"Please read out text number {index}")
            async with at_once:
                streamed, whole = await asyncio.gather(
                    stream(client, body), client.post("/v1/chat/completions", json=body)
                )
            text, reason, guard = folded(streamed)
            [choice] = whole.json()["choices"]
            assert choice["message"]["content"] == text
            assert choice["finish_reason"] == reason
            assert {**choice["guard"], "turn_id": ""} == {**guard, "turn_id": ""}
            return reason

        reasons = await asyncio.gather(*map(both, range(count)))
        assert {"stop", "content_filter"} == set(reasons), "both verdicts must occur"
