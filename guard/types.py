"""The guard's vocabulary. For every score, higher is better."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar, runtime_checkable

from guard.hazards import Hazard

Answer = TypeVar("Answer", covariant=True)


class Axis(StrEnum):
    """The two things a turn is scored on (Llama 2, §3.2.2: one reward model each)."""

    SAFETY = "safety"
    HELPFULNESS = "helpfulness"


class Stage(StrEnum):
    """What the judged conversation ends in: the user's words, or the model's."""

    PROMPT = "prompt"
    RESPONSE = "response"


class Verdict(StrEnum):
    """What the policy says of one judged text."""

    ALLOW = "allow"
    BLOCK = "block"


class Flag(StrEnum):
    """Why a turn deserves a second look. A turn may carry any number of flags."""

    UNSAFE_PROMPT = "unsafe_prompt"
    UNSAFE_RESPONSE = "unsafe_response"
    REFUSAL = "refusal"
    FALSE_REFUSAL = "false_refusal"
    UNHELPFUL = "unhelpful"
    UNJUDGED = "unjudged"
    USER_REPORT = "user_report"
    GUARD_APPEAL = "guard_appeal"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, its content flattened to text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What a reward model is asked about: a conversation and, maybe, a reply to it.

    Without a reply the conversation ends in the user's words and the question is what
    it asks for; with one, the question is what the reply does. `whole` says that the
    reply is a complete turn, of which a model may look at head and tail alone;
    otherwise it is an excerpt of which every token must be looked at.
    """

    conversation: tuple[Message, ...]
    reply: str | None = None
    whole: bool = False

    @property
    def stage(self) -> Stage:
        return Stage.PROMPT if self.reply is None else Stage.RESPONSE


@dataclass(frozen=True, slots=True)
class Score:
    """One model's opinion of one sample.

    value: calibrated probability in [0, 1] that the sample is good on this axis.
    reward: the raw logit behind it, uncalibrated and unbounded; of two judges, the mean.
    model: name and version of the model, as "name@version"; of two judges, both with a "+".
    disputed: another judge that was asked too came to the opposite verdict.
    """

    axis: Axis
    value: float
    reward: float
    model: str
    disputed: bool = False


class RefusalKind(StrEnum):
    """How a reply meets its request.

    full: declines, and gives nothing of what was asked for.
    partial: declines a part of the request, or helps only after declining.
    inability: cannot, for lack of an ability (no internet, no image). Not a refusal:
    the paper leaves these out of its false refusals (§4.2.3).
    compliance: does, or tries to do, what was asked, however well.
    """

    FULL = "full"
    PARTIAL = "partial"
    INABILITY = "inability"
    COMPLIANCE = "compliance"

    @property
    def refuses(self) -> bool:
        return self in (RefusalKind.FULL, RefusalKind.PARTIAL)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a classifier says of one sample beside its scores.

    hazards: probability of each kind of harm, given that the sample is harmful at all;
    they add up to 1.
    refusals: probability of each kind of answer, adding up to 1; empty without a reply.
    model: name and version, as "name@version"; of two that were asked, both, joined by a plus sign.
    disputed: two classifiers were asked, and disagree about whether the reply declines.
    """

    hazards: Mapping[Hazard, float]
    refusals: Mapping[RefusalKind, float]
    model: str
    disputed: bool = False

    @property
    def hazard(self) -> Hazard:
        """The likeliest kind of harm."""
        return max(self.hazards, key=lambda hazard: self.hazards[hazard])

    @property
    def declined(self) -> float:
        """Probability that the reply declines at least a part; 0 without a reply."""
        return sum(p for kind, p in self.refusals.items() if kind.refuses)

    @property
    def refusal(self) -> RefusalKind | None:
        """The likeliest kind of answer; None without a reply."""
        if not self.refusals:
            return None
        return max(self.refusals, key=lambda kind: self.refusals[kind])


class Classifier(Protocol):
    """Names the kind of harm and the kind of answer. Pure and blocking, like a reward model."""

    @property
    def model_id(self) -> str:
        """Name and version, as "name@version"."""
        ...

    def label(self, samples: Sequence[Sample]) -> list[Labels]: ...


class RewardModel(Protocol):
    """Scores samples on one axis. Pure and blocking: whoever calls it owns the thread.

    A sample's score must not depend on the other samples of the call.
    """

    @property
    def axis(self) -> Axis: ...

    @property
    def model_id(self) -> str:
        """Name and version, as "name@version"."""
        ...

    def score(self, samples: Sequence[Sample]) -> list[Score]: ...


@runtime_checkable
class Stepwise(Protocol[Answer]):
    """A reward model or classifier that can pause within a sample.

    A long sample then does not keep short ones waiting: whoever drives the steps may
    drive those of others in between.
    """

    def steps(self, sample: Sample) -> Generator[None, None, Answer]:
        """Works out one answer, and yields after each bounded piece of the work."""
        ...


def finished(steps: Generator[None, None, Answer]) -> Answer:
    """The answer, worked out without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


class GuardError(Exception):
    """The guard cannot answer. What follows is the operator's failure policy.

    GuardError
    ├── GuardTimeout      no verdict within the time allowed
    ├── GuardOverloaded   too many samples are waiting already
    ├── GuardBroken       a model raised, or answered what no score can be
    ├── GuardUnavailable  a model cannot be reached, or failed so often that it is left alone
    └── GuardUnjudgeable  this one sample is too much for a model that is well
    """


class GuardTimeout(GuardError): ...


class GuardOverloaded(GuardError): ...


class GuardBroken(GuardError): ...


class GuardUnavailable(GuardError): ...


class GuardUnjudgeable(GuardError): ...
