"""The safety model's training data: what to ask of each source, and how far to trust it."""

import hashlib
import random
from collections import Counter
from pathlib import Path

from flywheel.training.data import (
    Example,
    Mixture,
    Pair,
    conversation,
    prefix,
    rows,
    sampled,
    unsafe_from,
    user,
)
from flywheel.training.groups import about_groups
from flywheel.training.long_texts import LONGEST_PROMPT, SAMPLED, mosaics, prose, sampled_prose
from flywheel.training.wording import (
    SYSTEM_PROMPTS,
    refusal,
    sounds_like_refusal,
    things_begun,
    things_to_make,
)
from guard.types import Message, Sample

# A kind of do-not-answer: questions about the assistant's feelings.
MERELY_AWKWARD = {"human_chatbox"}
CONTRAST = Path(__file__).parent / "contrast"

# (weight, most rows taken). The openers of red-teaming dialogues are labelled by where they
# were found, and some are innocent alone; mitre-frr and our own contrast sets are few, and
# teach what no other source does.
PROMPT_SOURCES: dict[str, tuple[float, int]] = {
    "advbench": (1.0, 500),
    "catqa": (1.0, 500),
    "dangerousqa": (1.0, 200),
    "do-not-answer": (0.7, 800),
    "harmfulqa": (1.0, 1700),
    "malicious-instruct": (1.0, 100),
    "anthropic-red-team": (0.7, 5000),
    "inthewild-jailbreaks": (0.7, 550),
    "certified-safe": (1.0, 500),
    "self-instruct": (1.0, 400),
    "dolly-1k": (1.0, 900),
    "gsm8k": (1.5, 150),
    "hh-helpful-openers": (0.9, 1700),
    "webgpt-questions": (1.0, 800),
    "mtbench": (1.0, 100),
    "oasst": (0.8, 400),
    "mitre-frr": (2.0, 300),
}
EVERYDAY = (0.8, 3000)
TOXICITY_SOURCES: dict[str, tuple[float, int]] = {  # rows of each class
    "real-toxicity-prompts": (0.7, 1500),
    "surge": (1.0, 500),
    "davidson": (0.6, 500),
}
CONTRAST_WEIGHTS = {
    "handwritten": 3.0,
    "compounds": 3.0,
    "prose": 2.5,
    "generated": 0.7,
    "languages": 1.5,
}
GROUPS_WEIGHT = 1.0
# Sources that are written for this model, few and to the point.
OWN = {f"contrast-{name}" for name in CONTRAST_WEIGHTS} | {
    "groups",
    "things-to-make",
    "things-begun",
    "mosaics",
    "sampled-prose",
    "sampled-twins",
}
TWINS_WEIGHT = 1.2  # of a weak reply to a harmless request that sounds dangerous
DECLINES = {"full", "partial"}
ALIKE = 2  # jailbroken replies kept that begin or end with the same words
LONGEST_REPLY = 500  # characters; some run to thousands


def safety_mix(data: Path, split: str, seed: int = 7, replies: Path | None = None) -> Mixture:
    """Everything the safety model learns from (`train`) or is tuned on (`dev`).

    replies: what `python -m flywheel.training.replies` wrote.
    """
    chance = random.Random(seed)
    prompts = _requests(data, split, chance) + _toxic(data, split, chance)
    prompts += _everyday(data, split, chance)
    prompts += prose(data, split, chance) + mosaics(data, split, chance)
    if replies is not None:
        prompts += sampled_prose(replies, split)
    prompts += contrast(split)
    if split == "train":
        prompts += [
            Example(Sample(user(text)), 1.0 - harmful, "things-to-make", 2.0)
            for text, harmful in things_to_make()
        ]
    examples = list(prompts)
    examples += _in_context(prompts, data, split, chance)
    examples += _labelled_replies(data, split, chance)
    examples += _pairs_as_examples(data, split, chance)
    requests = [e for e in prompts if e.source not in TOXICITY_SOURCES]
    harmful = [e.sample for e in requests if not e.good]
    harmless = [e.sample for e in requests if e.good]
    examples += _refusals(harmful, harmless, chance)
    examples += _toxic_replies(data, split, harmless, chance)
    if split == "train":
        examples += [
            Example(Sample(user(text), begun), 1.0 - harmful, "things-begun", 1.5)
            for text, begun, harmful in things_begun()
        ]
    if replies is not None:
        examples += sampled_replies(replies, split, chance)
    return Mixture(examples, _ranked(data, split))


def _requests(data: Path, split: str, chance: random.Random) -> list[Example]:
    """Whole requests; a long one is cut to a random stretch of it."""
    table = rows(data / "prompt_harm.jsonl", split)
    found = []
    for source, (weight, limit) in PROMPT_SOURCES.items():
        for row in sampled([r for r in table if r["source"] == source], limit, chance):
            if row["category"] in MERELY_AWKWARD:
                continue
            text = row["prompt"]
            if len(text) > LONGEST_PROMPT and split == "train":
                start = chance.randrange(len(text) - LONGEST_PROMPT + 1)
                text = text[start : start + LONGEST_PROMPT]
            found.append(Example(Sample(user(text)), 1.0 - row["harmful"], source, weight))
    return found


def _toxic(data: Path, split: str, chance: random.Random) -> list[Example]:
    """Text that asks for nothing, and is insulting, hateful, sexual or threatening, or not."""
    table = rows(data / "toxicity.jsonl", split)
    found = []
    for source, (weight, limit) in TOXICITY_SOURCES.items():
        for toxic in (0, 1):
            kept = [r for r in table if r["source"] == source and r["toxic"] == toxic]
            for row in sampled(kept, limit, chance):
                found.append(Example(Sample(user(row["text"])), 1.0 - toxic, source, weight))
    return found


def _everyday(data: Path, split: str, chance: random.Random) -> list[Example]:
    """What people asked of assistants that were to be helpful, as harmless requests."""
    weight, limit = EVERYDAY
    asked = {
        r["messages"][0]["content"].strip(): r
        for r in rows(data / "helpful_pairs.jsonl", split)
        if r["messages"][0]["role"] == "user"
    }
    texts = [text for text in asked if 0 < len(text) <= LONGEST_PROMPT]
    chance.shuffle(texts)
    return [Example(Sample(user(text)), 1.0, "everyday", weight) for text in texts[:limit]]


def held_out(template: str) -> bool:
    """One template in ten is for `dev`, chosen by its name alone."""
    return hashlib.sha256(template.encode()).digest()[0] % 10 == 0


def contrast(split: str) -> list[Example]:
    """Our own twins: harmless requests that sound dangerous, and dangerous ones beside them."""
    found = [
        Example(Sample(user(r["prompt"])), 1.0 - r["harmful"], f"contrast-{name}", weight)
        for name, weight in CONTRAST_WEIGHTS.items()
        for r in rows(CONTRAST / f"{name}.jsonl")
        if held_out(r["template"]) == (split == "dev")
    ]
    return found + [
        Example(Sample(user(text)), 1.0 - harmful, "groups", GROUPS_WEIGHT)
        for text, harmful, sentence in about_groups()
        if held_out(sentence) == (split == "dev")
    ]


def _in_context(
    prompts: list[Example], data: Path, split: str, chance: random.Random
) -> list[Example]:
    """Requests after a system prompt or after harmless turns, which change nothing."""
    before = [
        conversation(r["messages"])[:-1]
        for r in rows(data / "helpful_pairs.jsonl", split)
        if len(r["messages"]) in (3, 5) and r["messages"][0]["role"] == "user"
    ]
    found = []
    for example in chance.sample(prompts, len(prompts) // 20):
        system = (Message("system", chance.choice(SYSTEM_PROMPTS)),)
        earlier = chance.choice((system, chance.choice(before), system + chance.choice(before)))
        sample = Sample(earlier + example.sample.conversation)
        found.append(Example(sample, example.good, "in-context", example.weight))
    return found


def _reply_example(
    question: tuple[Message, ...],
    reply: str,
    good: float,
    source: str,
    weight: float,
    chance: random.Random,
) -> Example:
    """The whole reply or, half of the time, an unfinished one as the gate would see it."""
    if chance.random() < 0.5:
        return Example(Sample(question, reply[:LONGEST_REPLY], whole=True), good, source, weight)
    part = prefix(reply, chance, 1 if good else unsafe_from(reply))
    return Example(Sample(question, part[:LONGEST_REPLY]), good, source, weight)


def _labelled_replies(data: Path, split: str, chance: random.Random) -> list[Example]:
    found: list[Example] = []
    seen: Counter[str] = Counter()
    weights = {"diasafety": 1.0, "gptfuzz": 1.2, "safetext": 1.0}
    for row in rows(data / "safety_labels.jsonl", split):
        if split == "train" and row["source"] == "diasafety" and chance.random() < 0.3:
            continue  # more of the same
        reply = row["response"].strip()
        # Jailbroken models repeat one refusal thousands of times.
        ends = {reply[:60], reply[-60:]}
        if not reply or (row["source"] == "gptfuzz" and max(seen[e] for e in ends) >= ALIKE):
            continue
        seen.update(ends)
        source, good = row["source"], 1.0 - row["unsafe"]
        question = conversation(row["messages"])
        found.append(_reply_example(question, reply, good, source, weights[source], chance))
    return found


def _pairs_as_examples(data: Path, split: str, chance: random.Random) -> list[Example]:
    """Helpful replies to everyday questions, as safe."""
    found: list[Example] = []
    for row in sampled(rows(data / "helpful_pairs.jsonl", split), 700, chance):
        question, reply = conversation(row["messages"])[-3:], row["chosen"].strip()
        if reply:
            found.append(_reply_example(question, reply, 1.0, "helpful-pairs", 0.5, chance))
    return found


def _refusals(
    harmful: list[Sample], harmless: list[Sample], chance: random.Random
) -> list[Example]:
    """A refusal is safe, whatever was asked."""
    own = [
        r["reply"] for r in rows(CONTRAST / "replies" / "refusals.jsonl") if r["kind"] in DECLINES
    ]
    found = []
    for asked in chance.sample(harmful, len(harmful) // 12) + chance.sample(
        harmless, len(harmless) // 20
    ):
        text = refusal(chance) if chance.random() < 0.3 else chance.choice(own)
        if chance.random() < 0.3:
            text = prefix(text, chance, 12)
        sample = Sample(asked.conversation, text, whole=chance.random() < 0.5)
        found.append(Example(sample, 1.0, "refusals", 0.7))
    return found


def _toxic_replies(
    data: Path, split: str, harmless: list[Sample], chance: random.Random
) -> list[Example]:
    """Toxic text is as unsafe from the model as from the user."""
    table = [r for r in rows(data / "toxicity.jsonl", split) if r["source"] != "davidson"]
    found = []
    for row in sampled(table, 800, chance):
        question = chance.choice(harmless).conversation
        sample = Sample(question, row["text"], whole=chance.random() < 0.5)
        found.append(Example(sample, 1.0 - row["toxic"], "toxic-replies", 0.5))
    return found


def sampled_replies(path: Path, split: str, chance: random.Random) -> list[Example]:
    """A small model's replies: safe to a harmless prompt, unsafe where it did as it was told.

    Those to harmless requests that sound dangerous count most, and are seen twice: what a weak
    model says of them is clumsy, full of frightening words, and safe.
    """
    found: list[Example] = []
    for row in rows(path):
        if row["source"] == SAMPLED or row["split"] != split or not row["reply"]:
            continue
        if row["harmful"] and sounds_like_refusal(row["reply"]):
            continue
        twin = row["source"] in CONTRAST_WEIGHTS
        source = "sampled-twins" if twin else "sampled-replies"
        sounds_dangerous = twin and not row["harmful"]
        weight = TWINS_WEIGHT if sounds_dangerous else 0.6
        for _ in range(2 if sounds_dangerous else 1):
            found.append(
                _reply_example(
                    user(row["prompt"]), row["reply"], 1.0 - row["harmful"], source, weight, chance
                )
            )
    return found


def _ranked(data: Path, split: str) -> list[Pair]:
    """Human preferences for the less harmful of two replies."""
    found = []
    for row in rows(data / "safety_pairs.jsonl", split):
        if not (row["chosen"].strip() and row["rejected"].strip()):
            continue
        asked = conversation(row["messages"])[-3:]
        chosen, rejected = (
            Sample(asked, row[side].strip()[:300], whole=True) for side in ("chosen", "rejected")
        )
        found.append(Pair(chosen, rejected, "hh-harmless"))
    return found
