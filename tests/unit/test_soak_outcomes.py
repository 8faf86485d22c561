"""A soak's outcomes: each that the gateway counts is one that a user saw or caused."""

from collections import Counter

import pytest

from loadtests.soak import explained

SEEN = Counter(completed=90, blocked=5, rejected=3, client_gone=2)
COUNTED = Counter(completed=90, blocked_prompt=4, blocked_response=1, rejected=3, client_gone=2)


def of(**changed: int) -> dict[str, int]:
    counted = Counter({**COUNTED, **changed})
    return explained(SEEN, Counter({**counted, "received": counted.total()}))


def test_what_users_saw_and_caused_is_explained() -> None:
    assert of() == {}


def test_whoever_leaves_may_have_the_whole_reply_on_the_way() -> None:
    assert of(completed=91, client_gone=1) == {}


@pytest.mark.parametrize(
    ("changed", "unexplained"),
    [
        ({"engine_failed": 1}, "engine_failed"),
        ({"guard_failed": 1}, "guard_failed"),
        ({"rejected": 4}, "rejected"),
        ({"completed": 89}, "ended"),
        ({"completed": 89, "client_gone": 3}, "client_gone"),
    ],
)
def test_what_nobody_saw_is_not(changed: dict[str, int], unexplained: str) -> None:
    assert unexplained in of(**changed)


def test_a_request_that_never_ended_is_not() -> None:
    assert explained(SEEN, Counter({**COUNTED, "received": COUNTED.total() + 1})) == {"received": 1}
