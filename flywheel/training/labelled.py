"""Texts labelled one by one: replies by how they answer, requests by hazard.

Labels given by hand to other people's texts are kept as digests of these texts, in
contrast/refusal_labels.jsonl and contrast/hazard_labels.jsonl, and joined here with the
data sets.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.training.data import Row, conversation, rows, user
from guard.hazards import Hazard
from guard.types import Message, RefusalKind, Sample

CONTRAST = Path(__file__).parent / "contrast"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sample with one or both of its labels, and how much they count.

    harmless: what is asked for is known to be harmless.
    random: drawn at random, and not because its words are those of refusals.
    """

    sample: Sample
    source: str
    kind: RefusalKind | None = None
    hazard: Hazard | None = None
    weight: float = 1.0
    harmless: bool = False
    random: bool = False


def digest(text: str) -> str:
    """How a text of a data set is named in our label files."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def question(messages: Sequence[Row]) -> str:
    """Digest of the end of the first user turn: jailbreaks wrap one question in many ways."""
    first = next((m["content"] for m in messages if m["role"] == "user"), "")
    return digest(first[-60:].lower())


def labelled_replies(data: Path, part: str) -> list[Labelled]:
    """Real models' replies labelled by hand; part: train, dev or test.

    A label whose text is not in `data` is left out.
    """
    texts = {digest(reply): (asked, reply) for asked, reply in _replies(data)}
    prompts = {digest(r["prompt"]): r["prompt"] for r in rows(data / "prompt_harm.jsonl")}
    found = []
    for row in rows(CONTRAST / "refusal_labels.jsonl"):
        if row["part"] != part:
            continue
        if "text" in row:  # of a model that we run ourselves
            asked, reply = user(prompts.get(row["prompt"], "")), row["text"]
        elif row["reply"] in texts:
            asked, reply = texts[row["reply"]]
        else:
            continue
        found.append(
            Labelled(
                Sample(asked, reply, whole=True),
                row["source"],
                kind=RefusalKind(row["kind"]),
                harmless=row["harmless"],
                random=row.get("random", False),
            )
        )
    return found


def _replies(data: Path) -> Iterator[tuple[tuple[Message, ...], str]]:
    for row in rows(data / "safety_labels.jsonl"):
        if row["source"] == "gptfuzz":
            yield conversation(row["messages"]), row["response"]
    for name in ("safety_pairs", "helpful_pairs"):
        for row in rows(data / f"{name}.jsonl"):
            for side in ("chosen", "rejected"):
                yield conversation(row["messages"]), row[side]


def labelled_hazards(data: Path, split: str) -> list[Labelled]:
    """Requests labelled with a hazard by hand, or by a rule of words at half the weight."""
    table = {digest(r["prompt"]): r["prompt"] for r in rows(data / "prompt_harm.jsonl", split)}
    return [
        Labelled(
            Sample(user(table[row["prompt"]])),
            row["source"],
            hazard=Hazard(row["hazard"]),
            weight=1.0 if row["by"] == "hand" else 0.5,
        )
        for row in rows(CONTRAST / "hazard_labels.jsonl")
        if row["prompt"] in table and row["hazard"]
    ]
