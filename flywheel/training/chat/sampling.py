"""Samples replies on vLLM, many at once, in a way that a kill costs only what was in flight.

Each prompt has a seed of its own, derived from the run's seed and the prompt, so that what is
sampled for it does not depend on what was sampled before. (vLLM may still differ in the last
digit between batches, and so now and then in a word.)
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, Self, TypeVar

import aiohttp
from pydantic import Field
from rich.progress import Progress

from flywheel.training.chat.files import Log, Messages, Row
from flywheel.training.chat.stage import Settings, StageError

ATTEMPTS = 5
_SENTENCE_END = re.compile(r"""[.!?]["')\]]*(?=\s)""")


class EngineSettings(Settings):
    """Where and how replies are sampled."""

    url: str = Field("http://127.0.0.1:8001", description="vLLM's base URL")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    tokens: int = Field(512, ge=1, description="longest reply")
    at_once: int = Field(16, ge=1, description="prompts in flight")
    timeout_s: float = Field(600.0, gt=0)
    seed: int = 7


class SamplerSettings(EngineSettings):
    served: str = Field(description="the model's served name, or an adapter's")
    trim: bool = Field(False, description="end a reply that was cut off after its last sentence")


@dataclass(frozen=True, slots=True)
class Reply:
    """whole: the model ended it, or it was trimmed; otherwise it was cut off."""

    text: str
    whole: bool

    def trimmed(self) -> "Reply":
        """A cut-off reply up to the end of its last whole sentence, if it has one."""
        ends = [found.end() for found in _SENTENCE_END.finditer(self.text)]
        return self if self.whole or not ends else Reply(self.text[: ends[-1]], True)


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=Keyed)


class Sampler:
    """A client of vLLM's chat completions. Open and close it as a context manager.

    served: the model's name there, or an adapter's. trim: end cut-off replies with a sentence.
    """

    def __init__(self, settings: EngineSettings, served: str, *, trim: bool = False) -> None:
        self._settings = settings
        self._served = served
        self._trim = trim
        self._url = f"{settings.url.rstrip('/')}/v1/chat/completions"

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def replies(self, messages: Messages, key: str, count: int = 1) -> list[Reply]:
        """`count` samples; none for a conversation that is too long for the engine.

        key: goes into the seed. Raises StageError when the engine fails for good.
        """
        settings = self._settings
        body = {
            "model": self._served,
            "messages": messages,
            "n": count,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.tokens,
            "seed": seed_of(settings.seed, key),
        }
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(2**attempt / 4)
            try:
                async with self._session.post(self._url, json=body) as response:
                    answer: Any = await response.json(content_type=None)
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                trouble = repr(error)
                continue
            if status == 200:
                found = [_reply(choice) for choice in answer["choices"]]
                return [reply.trimmed() for reply in found] if self._trim else found
            trouble = f"status {status}: {_message(answer)}"
            if status == 400 and "context" in trouble:
                return []
            if status in (400, 401, 404, 422):
                break
        raise StageError(
            f"the engine at {settings.url} does not answer for {self._served} ({trouble}): "
            "look whether it runs and serves that name, and give the same command again; what "
            "was sampled is kept"
        )


def seed_of(seed: int, key: str) -> int:
    return int.from_bytes(sha256(f"{seed}\0{key}".encode()).digest()[:4]) & 0x7FFFFFFF


async def each(
    items: Sequence[K], work: Callable[[K], Awaitable[Row]], log: Log, at_once: int, what: str
) -> list[Row]:
    """A row for each item, in the items' order; those in the log are not worked out again."""
    waiting = [item for item in items if item.key not in log.rows]
    if len(waiting) < len(items):
        print(f"{len(items) - len(waiting)} of {len(items)} are there already", flush=True)
    permits = asyncio.Semaphore(at_once)
    with Progress() as progress:
        task = progress.add_task(what, total=len(waiting))

        async def one(item: K) -> None:
            async with permits:
                row = await work(item)
            log.add({"key": item.key, **row})
            progress.advance(task)

        try:
            async with asyncio.TaskGroup() as tasks:
                for item in waiting:
                    tasks.create_task(one(item))
        except* (StageError, OSError) as errors:
            raise errors.exceptions[0] from None
    return [log.rows[item.key] for item in items]


def _reply(choice: dict[str, Any]) -> Reply:
    text = choice["message"].get("content") or ""
    return Reply(text.strip(), choice.get("finish_reason") == "stop")


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
