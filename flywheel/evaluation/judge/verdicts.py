"""What a judge model may answer, and nothing else: an answer that is not to the letter is none.

A judge is asked for one JSON object with one key. It may stand in a fenced block; anything else
beside it, another key, or another value makes the answer malformed. Malformed answers are
counted and never guessed at.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

_FENCED: Final = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)

RATING: Final = "rating"
KIND: Final = "kind"
BETTER: Final = "better"

ALLOWED: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        RATING: (1, 2, 3, 4, 5),
        KIND: ("full", "partial", "none"),
        BETTER: ("first", "second", "tie"),
    }
)
"""The values of each key."""


def verdict(answer: str, key: str) -> Any | None:
    """The one allowed value under `key`, or None for a malformed answer."""
    value = only_value(answer, key)
    # 1 == True in Python, and a judge that mixes them up has not understood the question.
    known = [allowed for allowed in ALLOWED[key] if type(allowed) is type(value)]
    return value if value in known else None


def only_value(answer: str, key: str) -> Any | None:
    """What stands under `key` in an answer that is one JSON object with that key alone."""
    fenced = _FENCED.fullmatch(answer.strip())
    try:
        said = orjson.loads(fenced.group(1) if fenced else answer.strip())
    except orjson.JSONDecodeError:
        return None
    return said[key] if isinstance(said, dict) and said.keys() == {key} else None
