"""One request to the engine, its choices read through their gates.

    attempt = Attempt(...)
    try:
        await attempt.start()             # the engine accepted and says its first words
        attempt.judge(prompt)             # from here on its text is judged as it comes
        while (releases := await attempt.next()) is not None:
            ...                           # deltas that verdicts cover, in order
    finally:
        attempt.close()                   # aborts the engine if it still generates

A reader task takes chunks from the engine into one `Choice` each; verdicts come back
through futures; `next` waits for whatever can be shown.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Final, Protocol

from guard.gate import Checkpoint
from guard.guard import Guard
from guard.types import Axis, GuardError, GuardUnjudgeable, Labels, Message, Sample, Score, Stage
from server.choice import Choice, Judgement, Release
from server.engine import Engine, EngineStream, Json
from server.errors import EngineBroken, GuardFailed

# How long the engine may take between its last finish reason and the end of its stream.
_LAST_WORDS_S: Final = 1.0
# Characters that tell how a reply begins, and whether it refuses: about a sentence.
_BEGINNING: Final = 80


class Observer(Protocol):
    """Where a turn reports what it measures."""

    def scored(self, stage: Stage, score: Score) -> None: ...

    def waited_for_guard(self, stage: Stage, seconds: float) -> None: ...

    def guard_failed(self, error: GuardError) -> None: ...

    def second_attempt(self, kind: str, result: str) -> None: ...

    def engine_asked_again(self) -> None: ...


class Hold(StrEnum):
    """How much of a reply is kept back beyond what is not judged yet.

    nothing: judged text is shown at once.
    beginning: nothing is shown until the reply's beginning is judged, and does not refuse
    where the policy would then ask again.
    whole: nothing is shown until the turn has chosen among several replies.
    """

    NOTHING = "nothing"
    BEGINNING = "beginning"
    WHOLE = "whole"


@dataclass(slots=True)
class Usage:
    """Tokens as the engine counts them, for as much as was generated."""

    prompt: int = 0
    completion_by_choice: dict[int, int] = field(default_factory=dict)
    total: Json | None = None

    def take(self, chunk: Json) -> None:
        usage = chunk.get("usage")
        if usage:
            self.prompt = usage.get("prompt_tokens", self.prompt)
        choices = chunk["choices"]
        if not choices:
            self.total = usage or self.total
            return
        for choice in choices:
            index = choice["index"]
            counted = usage.get("completion_tokens") if usage else None
            known = self.completion_by_choice.get(index, 0)
            self.completion_by_choice[index] = counted if counted is not None else known + 1

    def report(self) -> Json:
        """OpenAI's `usage` object. A reply that was cut off counts what was generated."""
        if self.total is not None:
            return self.total
        completion = sum(self.completion_by_choice.values())
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
        }


@dataclass(slots=True)
class _Asked:
    """A checkpoint whose scores, and maybe labels, are on their way."""

    checkpoint: Checkpoint
    excerpt: Sample
    at: float
    safety: asyncio.Future[Score]
    helpfulness: asyncio.Future[Score] | None = None
    labels: asyncio.Future[Labels] | None = None
    beginning: bool = False

    @property
    def futures(self) -> list[asyncio.Future[Score] | asyncio.Future[Labels]]:
        return [f for f in (self.safety, self.helpfulness, self.labels) if f is not None]

    def answered(self) -> bool:
        return all(future.done() for future in self.futures)


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
        self.guard_wait_s = 0.0
        self._turn_id = turn_id
        self._conversation = conversation
        self._body = body
        self._engine = engine
        self._guard = guard
        self._observer = observer
        self._hold = Hold.NOTHING
        self._stream: EngineStream | None = None
        self._chunks: AsyncIterator[Json] | None = None
        self._first: list[Json] = []
        self._reader: asyncio.Task[None] | None = None
        self._asked: dict[int, deque[_Asked]] = {}
        self._beginnings: set[int] = set()
        self._failure: Exception | None = None
        self._closed = False
        self._wake = asyncio.Event()

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
        self._hold = hold
        held = hold is not Hold.NOTHING
        self.choices = [
            Choice(index, self._guard, self._turn_id, prompt, held=held)
            for index in range(self._body.get("n") or 1)
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
        self._closed = True
        if self._reader is not None:
            self._reader.cancel()
        if self._stream is not None:
            self._stream.close()
        for asked in self._asked.values():
            for question in asked:
                for future in question.futures:
                    future.cancel()

    async def _read(self) -> None:
        assert self._chunks is not None
        try:
            for chunk in self._first:
                self._take(chunk)
            async for chunk in self._chunks:
                self._take(chunk)
            if any(choice.generating for choice in self.choices):
                raise EngineBroken("the engine ended its answer without a finish reason")
        except Exception as error:  # raised again by `next`, in the task that serves the client
            # Once every choice has its finish reason, what is missing was not for the client.
            if any(choice.generating for choice in self.choices):
                self._failure = error
                self._wake.set()

    def _take(self, chunk: Json) -> None:
        try:
            self.usage.take(chunk)
            self.fingerprint = chunk.get("system_fingerprint") or self.fingerprint
            for part in chunk["choices"]:
                self.choices[part["index"]].push(part)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineBroken("the engine sent a chunk of unknown shape") from error
        for choice in self.choices:
            for checkpoint in choice.gate.due():
                self._ask(choice, checkpoint)

    def _ask(self, choice: Choice, checkpoint: Checkpoint) -> None:
        excerpt = Sample(self._conversation, choice.gate.excerpt(checkpoint))
        asked = _Asked(checkpoint, excerpt, perf_counter(), self._score(Axis.SAFETY, excerpt))
        if checkpoint.final:
            whole = Sample(self._conversation, choice.gate.text, whole=True)
            asked.helpfulness = self._score(Axis.HELPFULNESS, whole)
            asked.labels = self._label(whole)
        elif self._ends_beginning(choice, checkpoint):
            self._beginnings.add(choice.index)
            asked.beginning = True
            if self._guard.policy.recover:
                beginning = Sample(self._conversation, choice.gate.text[: checkpoint.end])
                asked.labels = self._label(beginning)
        self._asked.setdefault(choice.index, deque()).append(asked)
        for future in asked.futures:
            future.add_done_callback(lambda _: self._settle(choice))

    def _ends_beginning(self, choice: Choice, checkpoint: Checkpoint) -> bool:
        return (
            self._hold is Hold.BEGINNING
            and choice.index not in self._beginnings
            and checkpoint.end >= _BEGINNING
        )

    def _score(self, axis: Axis, sample: Sample) -> asyncio.Future[Score]:
        try:
            return self._guard.scorer.submit(axis, sample)
        except GuardError as error:
            failed: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _label(self, sample: Sample) -> asyncio.Future[Labels] | None:
        if self._guard.labeller is None:
            return None
        try:
            return self._guard.labeller.label(sample)
        except GuardError as error:
            self._observer.guard_failed(error)
            return None

    def _settle(self, choice: Choice) -> None:
        """Apply the answers that are there, in the order of their checkpoints."""
        asked = self._asked[choice.index]
        while asked and asked[0].safety.done() and not self._finished_with(choice):
            question = asked[0]
            if question.labels is None and self._doubted(question.safety):
                question.labels = self._label(question.excerpt)
                if question.labels is not None:
                    question.labels.add_done_callback(lambda _: self._settle(choice))
            if not question.answered():
                break
            asked.popleft()
            waited = perf_counter() - question.at
            self.guard_wait_s += waited
            self._observer.waited_for_guard(Stage.RESPONSE, waited)
            try:
                self._apply(choice, question)
            except Exception as failure:  # raised again by `next`: a callback has no caller
                self._failure = failure
        self._wake.set()

    def _doubted(self, safety: asyncio.Future[Score]) -> bool:
        if safety.cancelled() or safety.exception() is not None:
            return False
        return self._guard.policy.doubts(Stage.RESPONSE, safety.result())

    def _apply(self, choice: Choice, question: _Asked) -> None:
        labels = self._labels(question.labels)
        if question.helpfulness is not None:
            choice.rate(self._answer(question.helpfulness))
            if labels is not None:
                choice.describe(labels)
        safety = self._answer(question.safety)
        if safety is None:
            choice.settle(question.checkpoint, None)
        else:
            choice.judgement.lower_safety(safety.value)
            decision = self._guard.policy.judge(Stage.RESPONSE, safety, labels)
            choice.settle(question.checkpoint, decision)
        told = question.beginning or question.checkpoint.final
        if self._hold is Hold.BEGINNING and told and not choice.gate.blocked:
            refuses = labels is not None and bool(labels.refusal and labels.refusal.refuses)
            choice.held = refuses and self._guard.policy.recover

    def _finished_with(self, choice: Choice) -> bool:
        return self._closed or self._failure is not None or choice.gate.blocked

    def _answer(self, future: asyncio.Future[Score]) -> Score | None:
        error = future.exception()
        if isinstance(error, GuardError):
            apply_failure_policy(error, self._guard, self._observer)
            return None
        score = future.result()
        self._observer.scored(Stage.RESPONSE, score)
        return score

    def _labels(self, future: asyncio.Future[Labels] | None) -> Labels | None:
        """Labels add detail to a verdict: without them the turn goes on."""
        if future is None:
            return None
        error = future.exception()
        if isinstance(error, GuardError):
            self._observer.guard_failed(error)
            return None
        return future.result()

    async def _finish_reading(self) -> None:
        """Let the engine end its stream, for its usage and its connection's reuse."""
        if self._reader is not None and not any(c.gate.blocked for c in self.choices):
            await asyncio.wait({self._reader}, timeout=_LAST_WORDS_S)


def apply_failure_policy(error: GuardError, guard: Guard, observer: Observer) -> None:
    """The guard could not judge: raise GuardFailed, or return where it fails open."""
    observer.guard_failed(error)
    # Whoever writes the text decides how long it is: that must not open the guard.
    if not guard.fail_open or isinstance(error, GuardUnjudgeable):
        raise GuardFailed(
            "the guard could not judge this turn in time, so it is not shown; try again",
            code=type(error).__name__,
            retry_after_s=1.0,
        ) from error


def _says_something(choice: Json) -> bool:
    delta: Json = choice.get("delta") or {}
    return choice.get("finish_reason") is not None or any(
        value for name, value in delta.items() if name != "role"
    )
