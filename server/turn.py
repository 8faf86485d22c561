"""One guarded turn, from an accepted request to its last release.

    turn = Turn(...)
    try:
        await turn.open()                 # prompt judged, engine accepted: errors are HTTP's
        while (releases := await turn.next()) is not None:
            ...                           # deltas that verdicts cover, in order
    finally:
        turn.close()                      # aborts the engine if it still generates

The engine starts while the prompt is being judged, so judging adds no waiting; nothing is
released before that verdict. An engine that dies before anything was shown is asked once more:
behind a router it is another one then. Where the policy asks for it, and nothing was shown yet, the
turn makes one more attempt or chooses among several: the better reply is served, and what
was not served is kept in `tried`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter

import structlog

from flywheel.records import AttemptKind as Kind
from flywheel.records import Outcome
from guard import preprompts
from guard.combined import combined_reward
from guard.guard import Guard
from guard.policy import Action, Decision
from guard.types import Axis, Flag, GuardError, Message, Sample, Score, Stage, Verdict
from server.attempt import Attempt
from server.choice import Choice, Judgement, Release
from server.engine import Engine, Json
from server.errors import ApiError, EngineFailed, EngineTimeout
from server.examiner import Hold, apply_failure_policy
from server.observer import Observer

log = structlog.get_logger(__name__)

Rewrite = Callable[[str], Awaitable[Json]]
"""The engine's request again, under a preprompt."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One of several replies to the turn's prompt. reward: combined, in [0, 1]."""

    kind: Kind
    choice: Choice
    reward: float
    chosen: bool


class Turn:
    """A guarded turn of one or more choices.

    conversation: what the guard judges. body: what the engine is asked, streamed.
    rewrite: makes the body of another attempt; without it there is none.
    """

    def __init__(
        self,
        turn_id: str,
        conversation: tuple[Message, ...],
        body: Json,
        *,
        engine: Engine,
        guard: Guard,
        observer: Observer,
        rewrite: Rewrite | None = None,
    ) -> None:
        self.turn_id = turn_id
        self.conversation = conversation
        self.prompt = Judgement()
        self.tried: list[Tried] = []
        self._wanted = body.get("n") or 1
        if rewrite is None or self._wanted > 1:
            guard = replace(guard, policy=guard.policy.single_attempt())
        samples = guard.policy.best_of
        self._body = {**body, "n": samples} if samples > 1 else body
        self._engine = engine
        self._guard = guard
        self._observer = observer
        self._rewrite = rewrite
        self._serving = self._attempt(self._body)
        self._attempts = [self._serving]
        self._served: list[Choice] | None = None
        self._prompt_wait_s = 0.0
        self._shown = False
        self._asked_again = False

    @property
    def choices(self) -> list[Choice]:
        """The replies that the client gets."""
        return self._served if self._served is not None else self._serving.choices

    @property
    def flags(self) -> set[Flag]:
        """Flags of the prompt and of every choice."""
        return self.prompt.flags.union(*(c.judgement.flags for c in self.choices))

    @property
    def outcome(self) -> Outcome:
        """How the turn ended, once `next` has returned None."""
        if self.prompt.verdict is Verdict.BLOCK:
            return Outcome.BLOCKED_PROMPT
        if any(choice.gate.blocked for choice in self.choices):
            return Outcome.BLOCKED_RESPONSE
        return Outcome.COMPLETED

    @property
    def fingerprint(self) -> str | None:
        return self._serving.fingerprint

    @property
    def guard_wait_s(self) -> float:
        """Seconds from asking for verdicts to having them, added up."""
        return self._prompt_wait_s + sum(attempt.guard_wait_s for attempt in self._attempts)

    def usage(self) -> Json:
        """OpenAI's `usage` object, over all attempts: what was generated is counted."""
        first, *others = [attempt.usage.report() for attempt in self._attempts]
        return {
            **first,
            **{name: first[name] + sum(other[name] for other in others) for name in _COUNTED},
        }

    async def open(self) -> None:
        """Judge the prompt while the engine starts. Raises ApiError; then nothing was shown."""
        starting = asyncio.ensure_future(self._start())
        try:
            await self._judge_prompt()
            if self.prompt.verdict is Verdict.BLOCK:
                blocked = range(self._wanted)
                self._served = [Choice(i, self._guard, self.turn_id, self.prompt) for i in blocked]
                return
            await starting
        finally:
            if not starting.done():
                starting.cancel()
            elif not starting.cancelled():
                starting.exception()  # retrieved: the verdict or the first error decides
        self._serving.judge(self.prompt, self._hold())

    async def next(self) -> list[Release] | None:
        """What may be shown next; None once every choice is finished. Raises ApiError."""
        if self.prompt.verdict is Verdict.BLOCK:
            refused = [c.refuse(Stage.PROMPT) for c in self.choices if not c.finished]
            return refused or None
        while True:
            try:
                releases = await self._releases()
            except EngineFailed as failure:
                if self._shown:
                    raise
                await self.start_over(failure)
            else:
                self._shown = True
                return releases

    async def start_over(self, failure: EngineFailed) -> None:
        """Ask the engine for the whole reply again. Only for a caller that has shown nothing.

        Raises `failure` if this was done before, or if the engine was silent rather than gone.
        """
        await self._ask_again(failure)
        self._serving.judge(self.prompt, self._hold())

    async def _start(self) -> None:
        try:
            await self._serving.start()
        except EngineFailed as failure:
            await self._ask_again(failure)

    async def _ask_again(self, failure: EngineFailed) -> None:
        if self._asked_again or isinstance(failure, EngineTimeout):
            raise failure
        self._asked_again = True
        log.warning("engine_asked_again", turn_id=self.turn_id, error=failure.type)
        self._observer.engine_asked_again()
        self._serving.close()
        self._serving = self._attempt(self._body)
        self._attempts = [self._serving]
        await self._serving.start()

    async def _releases(self) -> list[Release] | None:
        releases = await self._serving.next()
        if releases is None and self._served is None and any(c.held for c in self.choices):
            await self._decide()
            return await self._serving.next()
        return releases

    def close(self) -> None:
        """Let go of the engine; a generation that still runs is aborted. Never waits."""
        for attempt in self._attempts:
            attempt.close()

    def _attempt(self, body: Json) -> Attempt:
        return Attempt(
            self.turn_id,
            self.conversation,
            body,
            engine=self._engine,
            guard=self._guard,
            observer=self._observer,
        )

    async def _judge_prompt(self) -> None:
        started = perf_counter()
        sample = Sample(self.conversation)
        try:
            score = await self._guard.scorer.submit(Axis.SAFETY, sample)
            decision = await self._decision(sample, score)
        except GuardError as error:
            apply_failure_policy(error, self._guard, self._observer)
            self.prompt.flags.add(Flag.UNJUDGED)
            return
        finally:
            self._prompt_wait_s = perf_counter() - started
            self._observer.waited_for_guard(Stage.PROMPT, self._prompt_wait_s)
        self._observer.scored(Stage.PROMPT, score)
        self.prompt.safety = score.value
        if decision.action is Action.STEER:
            self.prompt.steered = True
            decision = replace(decision, verdict=Verdict.ALLOW)
        self.prompt.follow(decision)

    async def _decision(self, sample: Sample, score: Score) -> Decision:
        policy, labeller, labels = self._guard.policy, self._guard.labeller, None
        if labeller is not None and policy.doubts(Stage.PROMPT, score):
            try:
                labels = await labeller.label(sample)
            except GuardError as error:  # without its kind of harm, the stage's own rule holds
                self._observer.guard_failed(error)
        return policy.judge(Stage.PROMPT, score, labels)

    def _hold(self) -> Hold:
        policy = self._guard.policy
        if policy.best_of > 1 or self.prompt.steered:
            return Hold.WHOLE
        if policy.response.may_steer or (policy.recover and self._harmless):
            return Hold.BEGINNING
        return Hold.NOTHING

    @property
    def _harmless(self) -> bool:
        return not self.prompt.flags & {Flag.UNSAFE_PROMPT, Flag.UNJUDGED}

    async def _decide(self) -> None:
        """Choose the reply to serve, after one more attempt if the policy asks for one."""
        first = self._serving
        best = max(first.choices, key=self._rank)
        kind = self._another(best)
        second = await self._again(kind, best) if kind else None
        winner = best
        if second is not None and self._prefers(kind, second.choices[0], best):
            self._serving, winner = second, second.choices[0]
        of_first = Kind.SAMPLE if len(first.choices) > 1 else Kind.ORIGINAL
        replies = [(of_first, choice) for choice in first.choices]
        if kind and second is not None:
            replies.append((kind, second.choices[0]))
            kept = winner is not best
            self._observer.second_attempt(kind.value, "kept" if kept else "dropped")
        self.tried = [
            Tried(kind, choice, self._reward(choice), choice is winner) for kind, choice in replies
        ]
        if self._serving is second and kind:
            winner.judgement.action = kind.value
        elif len(first.choices) > 1 and not winner.gate.blocked:
            winner.judgement.action = "best_of"
        winner.serve()
        self._served = [winner]

    def _another(self, best: Choice) -> Kind | None:
        """The kind of attempt that the policy asks for after the first; None: none."""
        if self.prompt.steered or (best.gate.blocked and best.steered):
            return Kind.STEER
        if best.gate.blocked or not (self._guard.policy.recover and self._harmless):
            return None
        return Kind.RECOVER if best.judgement.refuses else None

    async def _again(self, kind: Kind, best: Choice) -> Attempt | None:
        """Another attempt under a preprompt, judged to its end; None if it failed."""
        assert self._rewrite is not None
        hazard = best.judgement.hazard
        preprompt = preprompts.HELPFUL
        if kind is Kind.STEER:
            preprompt = preprompts.safety(hazard.risk if hazard else None)
        self._serving.close()
        try:
            attempt = self._attempt(await self._rewrite(preprompt))
            self._attempts.append(attempt)
            await attempt.start()
            attempt.judge(self.prompt, Hold.WHOLE)
            await attempt.next()
        except ApiError as error:  # the first reply was judged, and is served as it stands
            log.warning("second_attempt_failed", turn_id=self.turn_id, kind=kind, error=error.type)
            self._observer.second_attempt(kind.value, "failed")
            return None
        return attempt

    def _prefers(self, kind: Kind | None, second: Choice, first: Choice) -> bool:
        if kind is Kind.RECOVER:
            safe = not second.gate.blocked and Flag.UNSAFE_RESPONSE not in second.judgement.flags
            return safe and not second.judgement.refuses
        return self._rank(second) > self._rank(first)

    def _rank(self, choice: Choice) -> tuple[bool, float]:
        return not choice.gate.blocked, self._reward(choice)

    def _reward(self, choice: Choice) -> float:
        found = choice.judgement
        return combined_reward(
            found.safety if found.safety is not None else 0.0,
            found.helpfulness if found.helpfulness is not None else 0.0,
            adversarial=Flag.UNSAFE_PROMPT in self.prompt.flags,
        )


_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")
