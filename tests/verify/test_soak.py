"""Minutes of mixed load: memory stays flat, nothing is left open, every request is counted."""

import asyncio
import contextlib
import gc
import os
import random
import time
from typing import Any

import httpx
import psutil
import pytest

from guard.types import GuardTimeout
from server.settings import LimitSettings
from tests.fakes.gateway import client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedScorer, scripted_guard
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.verify, pytest.mark.timeout(900)]

SOAK_S = float(os.environ.get("SAFECHAT_TEST_SOAK_S", "180"))
CLIENTS = 24
LEAVES_AFTER = httpx.Timeout(30, read=0.03)
STORY = "Once upon a time there was a small boat that went to sea with a cat and a goat. " * 4
KINDS = ["fine"] * 6 + ["a bomb", "bad reply", "leaves", "engine dies", "unjudgeable", "malformed"]


def script(body: dict[str, Any]) -> Script:
    said = body["messages"][-1]["content"]
    if said == "engine dies":
        return Script.words(STORY, ending=Ending.RESET)
    text = STORY + "then a bomb was there. " + STORY if said == "bad reply" else STORY
    return Script.words(text, delay=0.001)


async def test_a_soak_leaves_nothing_behind() -> None:
    scorer = ScriptedScorer(
        trouble=GuardTimeout, troubled=lambda s: s.conversation[-1].text == "unjudgeable"
    )
    scorer.asked = _Forgetful()
    settings = quick_settings(limits=LimitSettings(streams=CLIENTS))
    process, chance = psutil.Process(), random.Random(5)
    async with (
        ScriptedEngine(script) as engine,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard(scorer)) as gateway,
        client_for(gateway, limits=httpx.Limits(max_connections=CLIENTS)) as client,
    ):
        end = time.monotonic() + SOAK_S

        async def user() -> int:
            sent = 0
            while time.monotonic() < end:
                await _one(client, chance.choice(KINDS), chance.random() < 0.7)
                sent += 1
                engine.bodies.clear()
                engine.headers.clear()
            return sent

        users = [asyncio.create_task(user()) for _ in range(CLIENTS)]
        await asyncio.sleep(SOAK_S / 3)
        gc.collect()
        early, sockets = process.memory_info().rss, len(process.net_connections())
        sent = sum(await asyncio.gather(*users))
        await engine.idle()
        gc.collect()
        assert process.memory_info().rss < early * 1.1 + 20_000_000
        assert len(process.net_connections()) <= sockets + CLIENTS
        async with asyncio.timeout(3):
            while gateway.sample("safechat_turns_in_flight"):
                await asyncio.sleep(0.05)
        outcomes = gateway.outcomes()
        assert len(outcomes) == 7
        assert sum(outcomes.values()) == sent
        assert gateway.parts.limits.in_flight == 0
        assert len(asyncio.all_tasks()) < 30


class _Forgetful(list[Any]):
    """The scorer's record of what it was asked would grow with the soak."""

    def append(self, item: Any) -> None:
        return None


async def _one(client: httpx.AsyncClient, kind: str, streamed: bool) -> None:
    message = {"role": "user", "content": kind}
    body: dict[str, Any] = {"model": "scripted", "messages": [message], "stream": streamed}
    if kind == "malformed":
        body["messages"] = 3
    if kind == "leaves":
        with contextlib.suppress(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=body, timeout=LEAVES_AFTER)
    else:
        await client.post("/v1/chat/completions", json=body, timeout=30)
