"""False refusals: harmless questions that were declined, by the model or by the guard.

A false refusal is *suspected* here, by one of a few rules, and confirmed or dismissed by
people in review.
"""

from dataclasses import dataclass
from enum import StrEnum

from guard.policy import Decision
from guard.types import Flag, Labels, Verdict

# Most refusals are rightly made, and most replies are none: a flag has to be sure of both to be
# worth a reviewer's time. Chosen on held-out replies, see the classifier's card.
SURELY_HARMLESS = 0.8
SURELY_DECLINED = 0.7


class Source(StrEnum):
    """Who declined."""

    MODEL = "model"
    GUARD = "guard"


class Suspicion(StrEnum):
    """The rule by which a refusal is suspected to be false.

    classifier: the model declined a prompt that was judged harmless.
    near_threshold: the guard blocked a text whose score lies close to the threshold.
    disputed: the guard's two judges disagree about a blocked text.
    appeal: the user says that it was a fair question.
    review: none of these; people found it in review.
    """

    CLASSIFIER = "classifier"
    NEAR_THRESHOLD = "near_threshold"
    DISPUTED = "disputed"
    APPEAL = "appeal"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class FalseRefusal:
    """A suspicion: who declined, and by which rule we doubt it."""

    source: Source
    rule: Suspicion


def suspect_block(decision: Decision) -> FalseRefusal | None:
    """Whether our own block is doubted by something other than the judge that blocked."""
    if decision.verdict is not Verdict.BLOCK:
        return None
    if decision.disputed:
        return FalseRefusal(Source.GUARD, Suspicion.DISPUTED)
    if decision.doubtful:
        return FalseRefusal(Source.GUARD, Suspicion.NEAR_THRESHOLD)
    return None


def suspect_reply(
    prompt_flags: set[Flag], prompt_safety: float | None, labels: Labels
) -> FalseRefusal | None:
    """Whether the model surely refused a prompt that was judged, and surely harmless.

    Where two classifiers were asked, they must agree that it did.
    """
    harmless = prompt_safety is not None and prompt_safety >= SURELY_HARMLESS
    if prompt_flags & {Flag.UNSAFE_PROMPT, Flag.UNJUDGED} or not harmless:
        return None
    refused = labels.declined >= SURELY_DECLINED and not labels.disputed
    return FalseRefusal(Source.MODEL, Suspicion.CLASSIFIER) if refused else None
