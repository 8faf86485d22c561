"""Long texts that ask for nothing: length alone is no harm, nor is it harmless.

Jailbreaks are long and most questions are short, so a judge that learnt from requests alone
flags any long text. Three sources say otherwise: answers written for people and for
jailbreaks, a chat model's prose on dark matters, and mosaics, in which only one piece of an
everyday text tells whether it is harmful.
"""

import random
from pathlib import Path

from flywheel.training.data import Example, Row, rows, user, word_ends
from guard.types import Sample

LONGEST_PROMPT = 500  # characters; attack templates run to thousands
PROSE = (0.7, 500)  # weight, rows of each class
MOSAICS = (0.7, 600)
SAMPLED = "prose"  # of replies.py, as are its fields
SAMPLED_WEIGHT = 1.0
# How sure a score of RealToxicityPrompts must be, and a share of Davidson's raters.
SURELY, HARDLY = 0.6, 0.2
GRAVE = ("sexually_explicit", "identity_attack", "threat")


def prose(data: Path, split: str, chance: random.Random) -> list[Example]:
    """Answers written for people, as harmless, and what jailbreaks brought out."""
    weight, limit = PROSE
    kind = [r["chosen"].strip() for r in rows(data / "helpful_pairs.jsonl", split)]
    harsh = [
        r["response"].strip()
        for r in rows(data / "safety_labels.jsonl", split)
        if r["source"] == "gptfuzz" and r["unsafe"]
    ]
    found = []
    for good, texts in ((1.0, kind), (0.0, harsh)):
        long = sorted({text[:LONGEST_PROMPT] for text in texts if len(text) > LONGEST_PROMPT // 2})
        for text in chance.sample(long, min(limit, len(long))):
            found.append(Example(Sample(user(text)), good, "prose", weight))
    return found


def sampled_prose(replies: Path, split: str) -> list[Example]:
    """What a chat model wrote when asked for `--ask prose`: dark, and harmless."""
    return [
        Example(Sample(user(row["reply"][:LONGEST_PROMPT])), 1.0, "sampled-prose", SAMPLED_WEIGHT)
        for row in rows(replies)
        if row["source"] == SAMPLED and row["split"] == split and row["reply"]
    ]


def mosaics(data: Path, split: str, chance: random.Random) -> list[Example]:
    """Everyday texts with one piece set in: a gravely toxic post, or a harmless one."""
    weight, limit = MOSAICS
    table = rows(data / "toxicity.jsonl", split)
    pieces = {
        0.0: [r["text"].strip() for r in table if r["toxic"] and _is_grave(r)],
        1.0: [r["text"].strip() for r in table if not r["toxic"] and _is_mild(r)],
    }
    hosts = [r["chosen"].strip() for r in rows(data / "helpful_pairs.jsonl", split)]
    hosts = sorted({host for host in hosts if len(host) > LONGEST_PROMPT // 4})
    found = []
    for good, texts in pieces.items():
        for piece in chance.sample(texts, min(limit, len(texts))):
            text = _set_in(chance.choice(hosts), piece, chance)
            found.append(Example(Sample(user(text)), good, "mosaics", weight))
    return found


def _set_in(host: str, piece: str, chance: random.Random) -> str:
    """The piece between two stretches of the host, or before or after one."""
    room = max(0, LONGEST_PROMPT - len(piece))
    host = host[:room]
    ends = [0, *(end for end in word_ends(host) if host[:end].endswith((".", "!", "?")))]
    cut = chance.choice(ends)
    return " ".join(part for part in (host[:cut].strip(), piece, host[cut:].strip()) if part)


def _is_grave(row: Row) -> bool:
    if row["source"] == "davidson":
        return bool(row["hate"] >= SURELY)
    scores = row.get("scores") or {}
    return any((scores.get(kind) or 0.0) >= SURELY for kind in GRAVE)


def _is_mild(row: Row) -> bool:
    scores = row.get("scores") or {}
    return all((scores.get(kind) or 0.0) <= HARDLY for kind in GRAVE)
