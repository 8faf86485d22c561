"""The helpfulness model's training data: human preferences, and replies spoilt on purpose."""

import random
from pathlib import Path

from flywheel.training.data import Mixture, Pair, conversation, rows, shuffled_partners
from flywheel.training.wording import EVASIONS, refusal
from guard.types import Message, Sample

LONGEST_REPLY = 600  # characters
LONGEST_QUESTION = 300
TELLING = 80  # characters; a shorter reply that people chose is often no better than a model's
CLEARLY, SLIGHTLY = 1.0, 1 / 3  # margins
SPOILT_SHARE = 0.4  # of the good replies


def helpfulness_mix(data: Path, split: str, seed: int = 7, replies: Path | None = None) -> Mixture:
    """Preference pairs of one split, and a spoilt twin for four in ten of its good replies.

    The examples of the mixture are the pairs' replies by themselves, for calibration.
    People chose the longer reply in most pairs. Three in ten of the spoilt replies are no
    shorter than the good one, so that length alone is no merit.
    replies: what `python -m flywheel.training.replies --ask helpful` wrote.
    """
    chance = random.Random(seed)
    pairs: list[Pair] = []
    for row in rows(data / "helpful_pairs.jsonl", split):
        chosen, rejected = row["chosen"].strip(), row["rejected"].strip()
        asked = _shortened(conversation(row["messages"])[-3:])
        if chosen and rejected and chosen != rejected:
            pairs.append(_pair(asked, chosen, rejected, row["source"], SLIGHTLY))
    good = [p for p in pairs if len(p.chosen.reply or "") >= 30]
    for index, other in shuffled_partners(len(good), chance):
        if chance.random() < SPOILT_SHARE:
            asked, reply = good[index].chosen.conversation, good[index].chosen.reply or ""
            kind, worse = spoilt(reply, good[other].chosen.reply or "", chance)
            pairs.append(_pair(asked, reply, worse, kind, CLEARLY))
    if replies is not None:
        pairs += on_policy(replies, data, split, chance)
    return Mixture([e for pair in pairs for e in pair.as_examples()], pairs)


def on_policy(replies: Path, data: Path, split: str, chance: random.Random) -> list[Pair]:
    """A small model's replies, each in up to three pairs: once the worse one, twice the better.

    own: beside the reply that people chose. own-astray: beside the same model's reply to
    another question, so that only the topic tells them apart. own-cut: beside its beginning.
    """
    best = {
        str(row["messages"]): row["chosen"].strip()
        for row in rows(data / "helpful_pairs.jsonl", split)
        if len(row["chosen"]) >= TELLING
    }
    sampled = [row for row in rows(replies) if row["split"] == split and len(row["reply"]) >= 30]
    found: list[Pair] = []
    for index, other in shuffled_partners(len(sampled), chance):
        row, reply = sampled[index], sampled[index]["reply"]
        asked = _shortened(conversation(row["messages"])[-3:])
        found.append(_pair(asked, reply, sampled[other]["reply"], "own-astray", CLEARLY))
        words = reply.split()
        part = " ".join(words[: max(3, int(len(words) * chance.uniform(0.1, 0.5)))])
        found.append(_pair(asked, reply, part, "own-cut", CLEARLY))
        chosen = best.get(str(row["messages"]))
        if chosen is not None:
            found.append(_pair(asked, chosen, reply, "own", SLIGHTLY))
    return found


def spoilt(reply: str, stranger: str, chance: random.Random) -> tuple[str, str]:
    """A worse reply than `reply`, and what is wrong with it.

    stranger: a good reply to another question.
    """
    kind = chance.choices(
        ("off-topic", "refused", "evasive", "cut-off", "repeated", "rambling"),
        (6, 3, 2, 3, 3, 2),
    )[0]
    words = reply.split()
    if kind == "off-topic":
        return kind, stranger
    if kind == "refused":
        return kind, refusal(chance)
    if kind == "evasive" or len(words) < 12:
        return "evasive", chance.choice(EVASIONS)
    if kind == "cut-off":
        return kind, " ".join(words[: max(3, int(len(words) * chance.uniform(0.1, 0.5)))])
    if kind == "repeated":
        piece = " ".join(words[: chance.randint(3, 12)])
        return kind, " ".join([piece] * chance.randint(3, 8))
    return kind, f"{' '.join(words[: len(words) // 4])} {stranger}"


def _pair(
    asked: tuple[Message, ...], chosen: str, rejected: str, source: str, margin: float
) -> Pair:
    better, worse = (Sample(asked, text[:LONGEST_REPLY], whole=True) for text in (chosen, rejected))
    return Pair(better, worse, source, margin, auxiliary=0.5 * margin)


def _shortened(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    last = messages[-1]
    if len(last.text) <= LONGEST_QUESTION:
        return messages
    half = LONGEST_QUESTION // 2
    text = f"{last.text[:half]} {last.text[-half:]}"
    return (*messages[:-1], Message(last.role, text))
