"""One choice before the guard: asked about at its checkpoints, and settled in their order.

Each checkpoint that is due asks for the safety of an excerpt, and the last one for helpfulness and
labels of the whole reply too. Answers come back through futures, in any order.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Final

from guard.gate import Checkpoint
from guard.guard import Guard
from guard.types import Axis, GuardError, GuardUnjudgeable, Labels, Message, Sample, Score, Stage
from server.choice import Choice
from server.errors import GuardFailed
from server.observer import Observer

# Characters that tell how a reply begins, and whether it refuses: about a sentence.
_BEGINNING: Final = 80


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


class Examiner:
    """Has one choice judged as it comes.

    settled: called after each answer, with what keeps the turn from going on, if anything.
    """

    def __init__(
        self,
        choice: Choice,
        conversation: tuple[Message, ...],
        *,
        guard: Guard,
        observer: Observer,
        hold: Hold,
        settled: Callable[[Exception | None], None],
    ) -> None:
        self.guard_wait_s = 0.0
        self._choice = choice
        self._conversation = conversation
        self._guard = guard
        self._observer = observer
        self._hold = hold
        self._settled = settled
        self._asked: deque[_Asked] = deque()
        self._knows_beginning = False
        self._stopped = False

    def ask(self) -> None:
        """Ask about every checkpoint that is due."""
        for checkpoint in self._choice.gate.due():
            self._ask(checkpoint)

    def stop(self) -> None:
        """Settle nothing more."""
        self._stopped = True

    def close(self) -> None:
        """Settle nothing more, and wait for no answer."""
        self.stop()
        for question in self._asked:
            for future in question.futures:
                future.cancel()

    def _ask(self, checkpoint: Checkpoint) -> None:
        gate = self._choice.gate
        excerpt = Sample(self._conversation, gate.excerpt(checkpoint))
        asked = _Asked(checkpoint, excerpt, perf_counter(), self._score(Axis.SAFETY, excerpt))
        if checkpoint.final:
            whole = Sample(self._conversation, gate.text, whole=True)
            asked.helpfulness = self._score(Axis.HELPFULNESS, whole)
            asked.labels = self._label(whole)
        elif self._ends_beginning(checkpoint):
            self._knows_beginning = asked.beginning = True
            if self._guard.policy.recover:
                beginning = Sample(self._conversation, gate.text[: checkpoint.end])
                asked.labels = self._label(beginning)
        self._asked.append(asked)
        for future in asked.futures:
            future.add_done_callback(lambda _: self._settle())

    def _ends_beginning(self, checkpoint: Checkpoint) -> bool:
        return (
            self._hold is Hold.BEGINNING
            and not self._knows_beginning
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

    def _settle(self) -> None:
        """Apply the answers that are there, in the order of their checkpoints."""
        failure: Exception | None = None
        while self._asked and self._asked[0].safety.done() and not self._over:
            question = self._asked[0]
            if question.labels is None and self._doubted(question.safety):
                question.labels = self._label(question.excerpt)
                if question.labels is not None:
                    question.labels.add_done_callback(lambda _: self._settle())
            if not question.answered():
                break
            self._asked.popleft()
            waited = perf_counter() - question.at
            self.guard_wait_s += waited
            self._observer.waited_for_guard(Stage.RESPONSE, waited)
            try:
                self._apply(question)
            except Exception as error:  # told to `settled`: a callback has no caller
                failure = error
                self.stop()
        self._settled(failure)

    @property
    def _over(self) -> bool:
        return self._stopped or self._choice.gate.blocked

    def _doubted(self, safety: asyncio.Future[Score]) -> bool:
        if safety.cancelled() or safety.exception() is not None:
            return False
        return self._guard.policy.doubts(Stage.RESPONSE, safety.result())

    def _apply(self, question: _Asked) -> None:
        choice, policy = self._choice, self._guard.policy
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
            choice.settle(question.checkpoint, policy.judge(Stage.RESPONSE, safety, labels))
        told = question.beginning or question.checkpoint.final
        if self._hold is Hold.BEGINNING and told and not choice.gate.blocked:
            refuses = labels is not None and bool(labels.refusal and labels.refusal.refuses)
            choice.held = refuses and policy.recover

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
