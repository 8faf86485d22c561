"""What an attack strategy is: a request in, the user's turns out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Vector(StrEnum):
    """Kinds of attack (Llama 2, §4.2.1), and `none` for a request as it is."""

    NONE = "none"
    PSYCHOLOGICAL = "psychological"
    LOGIC = "logic"
    SYNTACTIC = "syntactic"
    SEMANTIC = "semantic"
    PERSPECTIVE = "perspective"
    NON_ENGLISH = "non_english"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to put a request.

    say: from the request to the user's turns, asked one after another; always the same ones.
    adaptive: where there is an attacker model, it writes every turn after the first.
    """

    name: str
    vector: Vector
    words: str
    say: Callable[[str], tuple[str, ...]]
    adaptive: bool = False
