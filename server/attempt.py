"""One request to the engine, its choices read through their gates.

    attempt = Attempt(...)
    try:
        await attempt.start()             # the engine accepted and says its first words
        attempt.judge(prompt)             # from here on its text is judged as it comes
        while (releases := await attempt.next()) is not None:
            ...                           # deltas that verdicts cover, in order
    finally:
        attempt.close()                   # aborts the engine if it still generates

A reader task takes chunks from the engine into one `Choice` each, before which an `Examiner`
stands; `next` waits for whatever can be shown.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from guard.guard import Guard
from guard.types import Message
from server.choice import Choice, Judgement, Release
from server.engine import Engine, EngineStream, Json
from server.errors import EngineBroken
from server.examiner import Examiner, Hold
from server.observer import Observer
from server.usage import Usage

# How long the engine may take between its last finish reason and the end of its stream.
_LAST_WORDS_S: Final = 1.0


class Attempt:
    """A guarded reply, or several to choose from. `body` is what the engine is asked."""

    def __init__(
        self,
        turn_id: str,
        conversation: tuple[Message, ...],
        body: Json,
        *,
        engine: Engine,
        guard: Guard,
        observer: Observer,
    ) -> None:
        self.usage = Usage()
        self.fingerprint: str | None = None
        self.choices: list[Choice] = []
        self._turn_id = turn_id
        self._conversation = conversation
        self._body = body
        self._engine = engine
        self._guard = guard
        self._observer = observer
        self._stream: EngineStream | None = None
        self._chunks: AsyncIterator[Json] | None = None
        self._first: list[Json] = []
        self._reader: asyncio.Task[None] | None = None
        self._examiners: list[Examiner] = []
        self._failure: Exception | None = None
        self._wake = asyncio.Event()

    @property
    def guard_wait_s(self) -> float:
        """Seconds from asking for verdicts to having them, added up."""
        return sum(examiner.guard_wait_s for examiner in self._examiners)

    async def start(self) -> None:
        """Open the engine's stream. Raises ApiError.

        Waits for the engine's first text too: until then its failure is a plain status.
        """
        self._stream = await self._engine.open(self._body)
        try:
            self._chunks = aiter(self._stream)
            async for chunk in self._chunks:
                self._first.append(chunk)
                if any(_says_something(choice) for choice in chunk["choices"]):
                    break
        except BaseException:
            self._stream.close()
            raise

    def judge(self, prompt: Judgement, hold: Hold = Hold.NOTHING) -> None:
        """Begin to judge what the engine says, after the verdict on the prompt."""
        held = hold is not Hold.NOTHING
        self.choices = [
            Choice(index, self._guard, self._turn_id, prompt, held=held)
            for index in range(self._body.get("n") or 1)
        ]
        self._examiners = [
            Examiner(
                choice,
                self._conversation,
                guard=self._guard,
                observer=self._observer,
                hold=hold,
                settled=self._settled,
            )
            for choice in self.choices
        ]
        self._reader = asyncio.create_task(self._read())

    async def next(self) -> list[Release] | None:
        """What may be shown next; None once nothing more comes by itself. Raises ApiError."""
        while True:
            if releases := [r for choice in self.choices for r in choice.take()]:
                return releases
            if all(choice.over for choice in self.choices):
                await self._finish_reading()
                return None
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Let go of the engine; a generation that still runs is aborted. Never waits."""
        if self._reader is not None:
            self._reader.cancel()
        if self._stream is not None:
            self._stream.close()
        for examiner in self._examiners:
            examiner.close()

    async def _read(self) -> None:
        assert self._chunks is not None
        try:
            for chunk in self._first:
                self._take(chunk)
            async for chunk in self._chunks:
                self._take(chunk)
            if any(choice.generating for choice in self.choices):
                raise EngineBroken("the engine ended its answer without a finish reason")
        except Exception as error:  # raised again by `next`
            # Once every choice has its finish reason, what is missing was not for the client.
            if any(choice.generating for choice in self.choices):
                self._fail(error)

    def _take(self, chunk: Json) -> None:
        try:
            self.usage.take(chunk)
            self.fingerprint = chunk.get("system_fingerprint") or self.fingerprint
            for part in chunk["choices"]:
                self.choices[part["index"]].push(part)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineBroken("the engine sent a chunk of unknown shape") from error
        for examiner in self._examiners:
            examiner.ask()

    def _settled(self, failure: Exception | None) -> None:
        if failure is not None:
            self._fail(failure)
        self._wake.set()

    def _fail(self, failure: Exception) -> None:
        """Have `next` raise it, in the task that serves the client."""
        self._failure = failure
        for examiner in self._examiners:
            examiner.stop()
        self._wake.set()

    async def _finish_reading(self) -> None:
        """Let the engine end its stream, for its usage and its connection's reuse."""
        if self._reader is not None and not any(c.gate.blocked for c in self.choices):
            await asyncio.wait({self._reader}, timeout=_LAST_WORDS_S)


def _says_something(choice: Json) -> bool:
    delta: Json = choice.get("delta") or {}
    return choice.get("finish_reason") is not None or any(
        value for name, value in delta.items() if name != "role"
    )
