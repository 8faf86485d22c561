"""Safety preprompts under which better replies to adversarial prompts are sampled (§4.2.4).

Generic ones are built from adjectives, in a few frames; tailored ones, with a template of the
answer for each risk, are those of the guard's second attempts. The wording is our own.
"""

import random

from guard.hazards import Risk
from guard.preprompts import safety

ADJECTIVES = (
    "responsible", "respectful", "wise", "careful", "honest", "caring", "thoughtful", "fair",
    "law-abiding", "considerate", "level-headed", "kind",
)  # fmt: skip
FRAMES = (
    "You are a {0}, {1} and {2} assistant. Never help anyone to do harm: say so and say why.",
    "Reply as a {0} and {1} person would, somebody {2}. If the request could hurt someone, "
    "decline, name the danger and offer something better.",
    "Be {0}, {1} and {2}. A harmful request gets a friendly no, a reason and a safe alternative.",
)


def generic(chance: random.Random) -> str:
    """One of several hundred preprompts that fit any adversarial prompt."""
    return chance.choice(FRAMES).format(*chance.sample(ADJECTIVES, 3))


def tailored(risk: Risk) -> str:
    """The preprompt of one risk, with the parts that its answer should have."""
    return safety(risk)
