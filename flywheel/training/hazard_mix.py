"""Harmful texts whose hazard follows from where they were found, or from our own wording."""

import random
from pathlib import Path

import yaml

from flywheel.training.data import rows, user
from flywheel.training.labelled import CONTRAST, Labelled
from guard.hazards import Hazard
from guard.types import Sample

# Kinds of RealToxicityPrompts that name a hazard, and how sure its score must be.
TOXIC = {
    "identity_attack": Hazard.HATE,
    "sexually_explicit": Hazard.SEXUAL_CONTENT,
    "threat": Hazard.VIOLENT_CRIMES,
    "insult": Hazard.HARASSMENT,
}


def own_hazards(chance: random.Random) -> list[Labelled]:
    """Our own texts, as requests, as posts and as replies."""
    own: dict[str, list[str]] = yaml.safe_load((CONTRAST / "hazards.yaml").read_text("utf-8"))
    found = []
    for hazard, texts in own.items():
        for text in texts:
            other = chance.choice(texts)
            for words in (text, f"{text} {other}"):
                found.append(Labelled(Sample(user(words)), "own-hazards", hazard=Hazard(hazard)))
    return found


def toxic(data: Path, chance: random.Random) -> list[Labelled]:
    """Posts whose kind of toxicity is known."""
    kept: dict[Hazard, list[str]] = {hazard: [] for hazard in TOXIC.values()}
    for row in rows(data / "toxicity.jsonl", "train"):
        if row["source"] == "davidson" and row["toxic"] and row["hate"] > 0.6:
            kept[Hazard.HATE].append(row["text"])
        scores = {k: v or 0.0 for k, v in (row.get("scores") or {}).items()}
        likely = max(TOXIC, key=lambda kind: scores.get(kind, 0.0))
        if scores.get(likely, 0.0) > 0.6:
            kept[TOXIC[likely]].append(row["text"])
    return [
        Labelled(Sample(user(text)), "toxicity", hazard=hazard, weight=0.7)
        for hazard, texts in kept.items()
        for text in chance.sample(texts, min(140, len(texts)))
    ]


def harmful_replies(hazards: list[Labelled], chance: random.Random) -> list[Labelled]:
    """Texts that stand in a reply, and requests with a reply that begins to comply."""
    found = []
    for example in chance.sample(hazards, len(hazards) // 6):
        text = example.sample.conversation[-1].text
        begun = chance.choice(("Sure!", "Of course.", "Here is how:", "Okay, let's start."))
        asked, reply = (text, begun) if chance.random() < 0.5 else ("Go on.", text)
        sample = Sample(user(asked), reply)
        found.append(
            Labelled(sample, "replies", hazard=example.hazard, weight=0.7 * example.weight)
        )
    return found
