"""One turn before and after, told from two records of it. Not a word of what was said."""

from collections.abc import Iterable, Iterator
from typing import Literal, Self

from flywheel.records import ChoiceRecord, Frozen, Outcome, Probability, TurnRecord
from guard.types import Flag, Verdict

_AFTER_A_REPLY = frozenset({Flag.UNSAFE_RESPONSE, Flag.UNHELPFUL})
_USERS = frozenset({Flag.USER_REPORT, Flag.GUARD_APPEAL})


class Side(Frozen):
    """What the guard made of a turn. None: that stage was not reached, or nobody judged it.

    refused: the model declined by itself. flags: the guard's own, not those that users raised.
    Of several replies the worst counts.
    """

    outcome: Outcome
    flags: tuple[Flag, ...]
    blocked_prompt: bool
    blocked_response: bool | None = None
    refused: bool | None = None
    prompt_safety: Probability | None = None
    response_safety: Probability | None = None
    helpfulness: Probability | None = None

    @classmethod
    def of(cls, record: TurnRecord) -> Self:
        prompt, choices = record.prompt, record.choices
        blocked = prompt.verdict is Verdict.BLOCK
        replied = () if blocked else choices
        return cls(
            outcome=record.outcome,
            flags=tuple(sorted(prompt.flags.union(*(choice.flags for choice in choices)))),
            blocked_prompt=blocked,
            blocked_response=_any(choice.verdict is Verdict.BLOCK for choice in replied),
            refused=_any(c.refusal.refuses for c in replied if c.refusal is not None),
            prompt_safety=prompt.safety,
            response_safety=_least(replied, "safety"),
            helpfulness=_least(replied, "helpfulness"),
        )

    def knows(self, flag: Flag) -> bool:
        """Whether the turn came far enough for the guard to raise this flag."""
        if flag in _USERS:
            return False
        if flag is Flag.UNSAFE_PROMPT:
            return self.prompt_safety is not None
        replied = self.blocked_response is not None
        return replied or (self.blocked_prompt and flag not in _AFTER_A_REPLY)


class Outlook(Frozen):
    """What would change of one turn. error: what kept the second run from its end."""

    turn_id: str
    before: Side
    after: Side
    error: str | None = None

    @classmethod
    def of(cls, before: TurnRecord, after: TurnRecord) -> Self:
        return cls(
            turn_id=before.turn_id,
            before=Side.of(before),
            after=Side.of(after),
            error=after.error,
        )

    def comparable(self) -> Iterator[tuple[str, bool, bool]]:
        """What can be told on both sides: its name, whether it was so, whether it would be."""
        for name in ("blocked_prompt", "blocked_response", "refused"):
            was, now = getattr(self.before, name), getattr(self.after, name)
            if was is not None and now is not None:
                yield name, was, now
        for flag in Flag:
            if self.before.knows(flag) and self.after.knows(flag):
                yield flag.value, flag in self.before.flags, flag in self.after.flags


class LeftOut(Frozen):
    """A turn that was not run again, and why."""

    turn_id: str
    reason: Literal["without_text", "never_judged", "cannot_be_asked_again"]


def _any(found: Iterable[bool]) -> bool | None:
    known = list(found)
    return any(known) if known else None


def _least(
    choices: tuple[ChoiceRecord, ...], axis: Literal["safety", "helpfulness"]
) -> float | None:
    scores = (getattr(choice, axis) for choice in choices)
    return min((score for score in scores if score is not None), default=None)
