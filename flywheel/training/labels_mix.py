"""The classifier's training data: replies by how they answer, harmful texts by hazard."""

import random
from pathlib import Path

from flywheel.training import answer_mix, hazard_mix
from flywheel.training.data import rows, user
from flywheel.training.labelled import (
    CONTRAST,
    Labelled,
    digest,
    labelled_hazards,
    labelled_replies,
)
from guard.types import Message


def labels_mix(
    data: Path, seed: int = 7, thin: float = 1.0, with_hazards: bool = True
) -> list[Labelled]:
    """Everything that the classifier is trained on.

    thin: share that is kept of the replies that nobody labelled by hand.
    with_hazards: the texts that have a hazard too, and not the replies alone.
    """
    chance = random.Random(seed)
    tested = {
        r["question"] for r in rows(CONTRAST / "refusal_labels.jsonl") if r["part"] != "train"
    }
    asked = _prompts(data, tested)
    by_hand = [*labelled_replies(data, "train"), *answer_mix.own_blocks(asked, chance)] * 3
    by_hand += answer_mix.curt_answers(asked, chance)
    answers = [
        *answer_mix.classic_refusals(data, tested, chance),
        *answer_mix.plain_answers(data, tested, chance),
    ]
    answers += answer_mix.hedged_answers(data, tested, chance)
    answers += answer_mix.own_answers(data, tested, asked, chance)
    answers = by_hand + chance.sample(answers, round(thin * len(answers)))
    if not with_hazards:
        return answers
    hazards = [
        *labelled_hazards(data, "train"),
        *hazard_mix.own_hazards(chance),
        *hazard_mix.toxic(data, chance),
    ]
    return answers + hazards + hazard_mix.harmful_replies(hazards, chance)


def _prompts(data: Path, tested: set[str]) -> list[tuple[Message, ...]]:
    """Requests of all kinds: how a reply answers must be read from the reply."""
    return [
        user(r["prompt"])
        for r in rows(data / "prompt_harm.jsonl", "train")
        if len(r["prompt"]) < 400 and digest(r["prompt"][-60:].lower()) not in tested
    ]
