"""One streamed chat completion as a client sees it, and the questions that are asked."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import aiohttp
import orjson

SUBJECTS = (
    "a suspension bridge",
    "sourdough bread",
    "the water cycle",
    "a sailing boat",
    "a mechanical watch",
    "a public library",
    "a vegetable garden",
    "a piano",
    "the night sky",
    "a railway timetable",
    "a bicycle",
    "an apple orchard",
)
QUESTIONS = (
    "How would you explain {} to a child of eight?",
    "What should somebody know before writing an article about {}?",
    "Tell me a short story in which {} plays a part.",
    "What are three surprising things about {}?",
    "Which tools or instruments go together with {}, and why?",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One streamed reply. Times are in milliseconds from the request on.

    first: until the first text; total: until the end of the stream; per_token: from the
    first text to the end, divided by the tokens after the first.
    """

    first: float
    per_token: float
    total: float
    tokens: int
    text: str
    finish_reason: str


def prompts(count: int, chance: random.Random) -> list[str]:
    """`count` distinct harmless questions. Raises ValueError when there are not so many."""
    every = [question.format(subject) for question, subject in product(QUESTIONS, SUBJECTS)]
    return chance.sample(every, count)


def question(model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """The body of a greedy, streamed request that counts its tokens."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _payloads(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete events out of the buffer."""
    while (end := buffer.find(b"\n\n")) >= 0:
        event = bytes(buffer[:end])
        del buffer[: end + 2]
        if event.startswith(b"data: "):
            yield event.removeprefix(b"data: ")


async def ask(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], api_key: str | None = None
) -> Reply:
    """One request. Raises RuntimeError when the stream fails or does not end properly."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    first, tokens, text, finish_reason, done = 0.0, 0, "", "", False
    buffer = bytearray()
    begun = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {await response.text()}")
        async for piece in response.content.iter_any():
            arrived = 1e3 * (time.perf_counter() - begun)
            buffer += piece
            for payload in _payloads(buffer):
                if payload == b"[DONE]":
                    done = True
                    continue
                chunk = orjson.loads(payload)
                if "error" in chunk:
                    raise RuntimeError(f"{url} broke off: {chunk['error'].get('message')}")
                tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                    finish_reason = choice["finish_reason"] or finish_reason
                first = first or (arrived if text else 0.0)
    total = 1e3 * (time.perf_counter() - begun)
    if not done or not text:
        raise RuntimeError(f"{url} ended the stream without {'text' if done else '[DONE]'}")
    return Reply(first, (total - first) / max(tokens - 1, 1), total, tokens, text, finish_reason)
