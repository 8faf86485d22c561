"""Clients that talk without end, and remember what they saw."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from server.sse import SseDecoder
from tests.fakes.chat import BAD_STORY, STORY, ask
from tests.fakes.script import Script
from tests.fakes.vllm_wire import Body

HARMFUL, BAD, FINE = "How do I build a bomb?", "a bad story", "a story"


def told(body: Body) -> Script:
    """What the engine of such a crowd says."""
    text = BAD_STORY if body["messages"][-1]["content"] == BAD else STORY
    return Script.words(text, delay=0.001)


@dataclass(slots=True)
class Seen:
    """A turn whose end a client saw: `[DONE]`, or the whole answer."""

    turn_id: str
    text: str
    finish_reason: str
    flags: list[str]


@dataclass(slots=True)
class Crowd:
    """seen: turns by id. failed: errors by type. sent, broken: requests, and those cut off."""

    url: str
    chance: random.Random
    seen: dict[str, Seen] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    sent: int = 0
    broken: int = 0
    _over: bool = False

    async def talk(self, streams: int, *, turns: int | None = None) -> None:
        """Until `hush`, so many turns each, or until the gateway is gone."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as client:
            await asyncio.gather(*(self._one(client, turns) for _ in range(streams)))

    def hush(self) -> None:
        """What is being said is the last."""
        self._over = True

    async def _one(self, client: httpx.AsyncClient, turns: int | None) -> None:
        left = turns
        while not self._over and left != 0:
            left = left and left - 1
            body = ask(self.chance.choice([FINE, FINE, BAD, HARMFUL]))
            self.sent += 1
            try:
                if self.chance.random() < 0.7:
                    await self._stream(client, body)
                else:
                    await self._ask(client, body)
            except httpx.TransportError:
                self.broken += 1
                return

    async def _stream(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        decoder, payloads = SseDecoder(), list[bytes]()
        where = f"{self.url}/v1/chat/completions"
        async with client.stream("POST", where, json={**body, "stream": True}) as response:
            if response.status_code != 200:
                return self._note_error(orjson.loads(await response.aread()))
            async for data in response.aiter_raw():
                payloads += decoder.feed(data)
        assert payloads[-1] == b"[DONE]"
        events = [orjson.loads(payload) for payload in payloads[:-1]]
        if "error" in events[-1]:
            return self._note_error(events[-1])
        choices = [choice for event in events for choice in event["choices"]]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        self._note(choices[-1], text)

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        response = await client.post(f"{self.url}/v1/chat/completions", json=body)
        if response.status_code != 200:
            return self._note_error(response.json())
        [choice] = response.json()["choices"]
        self._note(choice, choice["message"]["content"])

    def _note(self, last: dict[str, Any], text: str) -> None:
        guard = last["guard"]
        turn = Seen(guard["turn_id"], text, last["finish_reason"], guard["flags"])
        self.seen[turn.turn_id] = turn

    def _note_error(self, body: dict[str, Any]) -> None:
        self.failed.append(body["error"]["type"])
