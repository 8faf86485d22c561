"""When a refusal is suspected to be false, and by which rule."""

import pytest

from guard.hazards import Hazard
from guard.refusal import (
    SURELY_DECLINED,
    SURELY_HARMLESS,
    FalseRefusal,
    Source,
    Suspicion,
    suspect_reply,
)
from guard.types import Flag, Labels, RefusalKind

SUSPECTED = FalseRefusal(Source.MODEL, Suspicion.CLASSIFIER)


def answering(**kinds: float) -> Labels:
    return Labels({Hazard.HATE: 1.0}, {RefusalKind(k): p for k, p in kinds.items()}, "labels@1")


def test_a_sure_refusal_of_a_surely_harmless_question_is_suspected() -> None:
    assert suspect_reply(set(), 0.99, answering(full=0.9, compliance=0.1)) == SUSPECTED


def test_full_and_partial_refusals_count_together() -> None:
    in_parts = answering(full=SURELY_DECLINED / 2, partial=SURELY_DECLINED / 2, inability=0.0)
    assert suspect_reply(set(), 0.99, in_parts) == SUSPECTED


@pytest.mark.parametrize(
    ("flags", "safety", "kinds"),
    [
        (set(), 0.99, {"full": 0.5, "compliance": 0.5}),
        (set(), 0.99, {"inability": 0.9, "full": 0.1}),
        (set(), SURELY_HARMLESS - 0.01, {"full": 1.0}),
        (set(), None, {"full": 1.0}),
        ({Flag.UNSAFE_PROMPT}, 0.99, {"full": 1.0}),
        ({Flag.UNJUDGED}, 0.99, {"full": 1.0}),
    ],
    ids=["half sure", "inability", "hardly harmless", "no score", "unsafe", "unjudged"],
)
def test_anything_less_is_not(
    flags: set[Flag], safety: float | None, kinds: dict[str, float]
) -> None:
    assert suspect_reply(flags, safety, answering(**kinds)) is None
