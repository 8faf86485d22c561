"""What tests say to the chat route, and how they read what it answers."""

import asyncio
from typing import Any

import httpx
import orjson

from server.sse import SseDecoder

STORY = "Once upon a time there was a small boat that went to sea with a cat and a goat. " * 6
BAD_STORY = STORY[:200] + " and then they built a bomb, like this. " + STORY


def ask(text: str = "Tell me a story.", **more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}


async def stream(
    client: httpx.AsyncClient, body: dict[str, Any], began: asyncio.Event | None = None
) -> list[dict[str, Any]]:
    """All events of a streamed reply, which must end with [DONE]. began: set at the first."""
    decoder, payloads = SseDecoder(), list[bytes]()
    async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as r:
        assert r.status_code == 200, await r.aread()
        async for data in r.aiter_raw():
            payloads += decoder.feed(data)
            if began is not None and payloads:
                began.set()
    assert payloads[-1] == b"[DONE]"
    return [orjson.loads(p) for p in payloads[:-1]]


def folded(events: list[dict[str, Any]], index: int = 0) -> tuple[str, str, dict[str, Any]]:
    """Text, finish reason and guard object of one choice."""
    choices = [c for e in events for c in e["choices"] if c["index"] == index]
    text = "".join(c["delta"].get("content", "") for c in choices)
    return text, choices[-1]["finish_reason"], choices[-1]["guard"]
