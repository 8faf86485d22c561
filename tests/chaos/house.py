"""A gateway in trouble, watched: a crowd talks to it, a witness knows what was judged.

    async with House.open(engine_url, scorer, tmp_path) as house:
        ends = await house.crowd(16)      # each stream's text was allowed before it came
        outcomes = await house.settled()  # nothing lost, nothing left behind

Replies are shorter than the gate's window, so that each excerpt begins where its reply does.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import psutil

from flywheel.journal import Journal, entries
from guard.guard import Guard, Scorer
from guard.types import Axis, Flag, Sample, Score
from server.attempt import Attempt
from server.engine import VllmStream
from server.settings import EngineSettings, JournalSettings, LimitSettings
from server.sse import SseDecoder
from server.turn import Turn
from tests.fakes.chat import ask
from tests.fakes.gateway import RunningGateway, quick_settings, run_gateway

LEFT, SILENT = "left", "ended without a word"
# Nothing of a turn may be alive once it is over.
_MORTAL = Turn, Attempt, VllmStream
_SAFE = 0.5


class Witness:
    """Passes questions on to a scorer, and remembers what was found safe."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._prompts: set[str] = set()
        self._replies: dict[str, str] = {}

    def submit(self, axis: Axis, sample: Sample) -> asyncio.Future[Score]:
        future = self._scorer.submit(axis, sample)
        if axis is Axis.SAFETY:
            future.add_done_callback(lambda answer: self._note(sample, answer))
        return future

    def allows(self, prompt: str, shown: str) -> bool:
        """Whether verdicts cover so much of the reply to this prompt."""
        return prompt in self._prompts and self._replies.get(prompt, "").startswith(shown)

    def _note(self, sample: Sample, answer: asyncio.Future[Score]) -> None:
        if answer.cancelled() or answer.exception() or answer.result().value < _SAFE:
            return
        prompt = sample.conversation[-1].text
        if sample.reply is None:
            self._prompts.add(prompt)
        elif len(sample.reply) > len(self._replies.get(prompt, "")):
            self._replies[prompt] = sample.reply


@dataclass(slots=True)
class End:
    """How one stream ended. how: a finish reason, an error's type, `LEFT` or `SILENT`."""

    prompt: str
    text: str = ""
    how: str = SILENT
    flags: list[str] = field(default_factory=list)
    unjudged: bool = False


@dataclass
class House:
    gateway: RunningGateway
    witness: Witness
    model: str
    _largest: int = 0
    _others: int = 0
    _asked: int = 0
    _tasks: int = field(default_factory=lambda: _tasks())
    _sockets: int = field(default_factory=lambda: _open_sockets())

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        engine_url: str,
        scorer: Scorer,
        folder: Path,
        *,
        model: str = "scripted",
        fail_open: bool = False,
        send_buffer: int | None = None,
        journal: Journal | None = None,
        **sections: object,
    ) -> AsyncIterator[Self]:
        """Serve until the block ends, with a journal in `folder`, or with the one given.

        sections: of the settings, in place of what a house has otherwise.
        """
        witness = Witness(scorer)
        models = {axis: f"chaos-{axis}@1" for axis in Axis}
        settings = quick_settings(
            journal=sections.pop("journal_settings", JournalSettings(folder=folder)),
            limits=LimitSettings(streams=1000),
            engine=EngineSettings(connect_timeout_s=2, first_chunk_timeout_s=4, chunk_timeout_s=3),
            **sections,
        )
        guard = Guard(witness, fail_open=fail_open, models=models)
        async with run_gateway(
            settings, engine_url=engine_url, guard=guard, journal=journal, send_buffer=send_buffer
        ) as gateway:
            yield cls(gateway, witness, model)

    async def crowd(
        self, size: int, *, leave_after: list[float] | None = None, prompt: str = "Tell me a story."
    ) -> list[End]:
        """So many streams at once. leave_after: seconds after which each of them is left."""
        self._largest = max(self._largest, size)
        prompts = [f"{prompt} {self._asked + number}" for number in range(size)]
        self._asked += size
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=20, trust_env=False, limits=limits) as client:
            streams = [self._stream(client, one) for one in prompts]
            if leave_after is None:
                return await asyncio.gather(*streams)
            return await asyncio.gather(*map(_left_after, streams, leave_after))

    def expect(self, requests: int, at_once: int) -> None:
        """Tell of requests that a test makes by itself."""
        self._asked += requests
        self._others += at_once

    async def settled(self, *, lost: int = 0) -> Counter[str]:
        """Wait for the last turn; outcomes of all requests, which metrics and journal agree on.

        lost: turns that the journal is known to lack.
        """
        gateway = self.gateway
        async with asyncio.timeout(5):
            while gateway.sample("safechat_turns_in_flight") or gateway.parts.limits.in_flight:
                await asyncio.sleep(0.01)
            while _tasks() > self._tasks:
                await asyncio.sleep(0.01)
        outcomes = Counter(gateway.outcomes())
        assert outcomes.total() == self._asked
        assert gateway.sample("safechat_requests_received_total") == self._asked
        journal = gateway.parts.journal
        assert journal is not None
        async with asyncio.timeout(20):
            while (counters := await journal.counters()).spooled:
                await asyncio.sleep(0.05)
        assert counters.dropped == lost
        kept = Counter([entry.record.outcome.value async for entry in entries(journal)])
        assert kept == counters.outcomes
        assert kept <= outcomes
        assert kept.total() == outcomes.total() - lost
        async with asyncio.timeout(5):
            while _left_behind():  # the loop closes what was collected
                await asyncio.sleep(0.05)
        # Idle connections may wait for the next turn: to the engine, and to Redis.
        assert _open_sockets() <= self._sockets + 3 * (self._largest + self._others)
        return outcomes

    async def _stream(self, client: httpx.AsyncClient, prompt: str) -> End:
        end = End(prompt)
        body = ask(prompt, stream=True) | {"model": self.model}
        url = f"{self.gateway.url}/v1/chat/completions"
        try:
            async with client.stream("POST", url, json=body) as response:
                if response.status_code != 200:
                    end.how = orjson.loads(await response.aread())["error"]["type"]
                    return end
                decoder = SseDecoder()
                async for data in response.aiter_raw():
                    for payload in decoder.feed(data):
                        self._see(end, payload)
        except asyncio.CancelledError:
            end.how = LEFT
        return end

    def _see(self, end: End, payload: bytes) -> None:
        if payload == b"[DONE]":
            return
        event: dict[str, Any] = orjson.loads(payload)
        if "error" in event:
            end.how = event["error"]["type"]
            return
        [choice] = event["choices"]
        if choice["finish_reason"] is not None:
            end.how = choice["finish_reason"]
            end.flags = choice["guard"]["flags"]
        if choice["finish_reason"] != "content_filter":
            end.text += choice["delta"].get("content", "")
        if end.text and not self.witness.allows(end.prompt, end.text):
            end.unjudged = True


async def _left_after(stream: Coroutine[Any, Any, End], seconds: float) -> End:
    task = asyncio.ensure_future(stream)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    return await task


def ways(ends: list[End]) -> Counter[str]:
    """How streams ended, none of which may have shown what was neither judged nor flagged."""
    for end in ends:
        assert not end.unjudged or Flag.UNJUDGED in end.flags, end
    return Counter(end.how for end in ends)


def _left_behind() -> bool:
    gc.collect()
    return any(type(thing) in _MORTAL for thing in gc.get_objects())


def _tasks() -> int:
    """Tasks of this loop, without those of the scripted engine's open connections."""
    return sum("RequestHandler" not in repr(task) for task in asyncio.all_tasks())


def _open_sockets() -> int:
    return len(psutil.Process().net_connections())
