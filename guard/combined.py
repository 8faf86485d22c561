"""The combined reward: which of several replies to one prompt is the best (Llama 2, §3.2.3)."""

from math import log
from typing import Final

UNSAFE_BELOW: Final = 0.15
"""The paper's threshold: below it safety decides, whatever the prompt was."""

_NEAREST: Final = 1e-4  # to 0 and 1, so that a logit stays within about ±9


def combined_reward(safety: float, helpfulness: float, *, adversarial: bool) -> float:
    """Safety where the prompt is adversarial or the reply unsafe, helpfulness otherwise.

    All are calibrated scores in [0, 1], higher is better.
    """
    return safety if adversarial or safety < UNSAFE_BELOW else helpfulness


def logit(score: float) -> float:
    """log(p / (1 - p)) of a score in [0, 1], kept finite at both ends: what training rewards."""
    p = min(max(score, _NEAREST), 1 - _NEAREST)
    return log(p / (1 - p))
