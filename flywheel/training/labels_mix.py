"""The classifier's training data: replies by how they answer, harmful texts by hazard.

Labels given by hand to other people's texts are kept as digests of these texts, in
contrast/refusal_labels.jsonl and contrast/hazard_labels.jsonl, and joined here with the
data sets. The rest is of our own wording, or follows from where a text was found.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flywheel.training.data import Row, conversation, rows, sampled, user
from flywheel.training.wording import refusal
from guard import refusals
from guard.hazards import Hazard
from guard.types import Message, RefusalKind, Sample, Stage

CONTRAST = Path(__file__).parent / "contrast"
OWN_KINDS = {"comply": RefusalKind.COMPLIANCE}
# Words of refusal: a reply without any of them complies, whatever it is worth.
SIGNS = re.compile(
    r"sorry|apolog|cannot|can.?t\b|unable|won.?t\b|will not|not able|as an ai|i.m not|i am not"
    r"|illegal|unethical|inappropriate|not appropriate|language model|comfortable|don.?t|do not"
    r"|declin|refus|against|should ?n|must|important|unfortunately",
    re.IGNORECASE,
)
# A refusal that goes on is left out: it may turn into help.
CLASSIC = re.compile(
    r"(i.m|i am|i apologi[sz]e,? )[ \w]{0,12}(sorry,? )?but i (can.?t|cannot|am u)", re.I
)
LONGEST_REFUSAL = 330
# Without any of these a chatty reply neither declines nor lacks anything, hedge as it may.
LACKS = re.compile(
    r"can.?t\b|cannot|can not|could ?n.t|unable|won.?t\b|will not|not able|not sure|no idea|sorry"
    r"|(don.?t|do not) (know|have|understand|think i|feel|want)|not familiar|apolog|declin|refus"
    r"|comfortable|rather not|language model|as an ai|not an? (expert|doctor|lawyer)"
    r"|what do you mean",
    re.IGNORECASE,
)
# "No." answers the closed question, and declines the open one and the order.
CLOSED = re.compile(r"(is|are|was|were|do|does|did|has|have|should|will|would)\b", re.I)
OPEN = re.compile(
    r"(how|what|why|who|where|write|tell|give|explain|describe|list|show|create|make|suggest"
    r"|generate|provide)\b",
    re.IGNORECASE,
)
CURT = ("No.", "No!", "Nope.", "No, I won't.", "Sorry, no.", "I won't.", "Never.", "Not today.")
DENIES = ("No.", "No!", "Nope.", "Not really.", "Sorry, no.", "Never.", "Yes.", "Yes, often.")
# Kinds of RealToxicityPrompts that name a hazard, and how sure its score must be.
TOXIC = {
    "identity_attack": Hazard.HATE,
    "sexually_explicit": Hazard.SEXUAL_CONTENT,
    "threat": Hazard.VIOLENT_CRIMES,
    "insult": Hazard.HARASSMENT,
}


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


def labels_mix(data: Path, seed: int = 7, thin: float = 1.0) -> list[Labelled]:
    """Everything that the classifier is trained on.

    thin: share that is kept of the replies that nobody labelled by hand.
    """
    chance = random.Random(seed)
    tested = {
        r["question"] for r in rows(CONTRAST / "refusal_labels.jsonl") if r["part"] != "train"
    }
    asked = _prompts(data, tested)
    by_hand = [*labelled_replies(data, "train"), *_own_blocks(asked, chance)] * 3
    by_hand += _curt_answers(asked, chance)
    answers = [*_classic_refusals(data, tested, chance), *_plain_answers(data, tested, chance)]
    answers += _hedged_answers(data, tested, chance)
    answers += _own_answers(data, tested, asked, chance)
    hazards = [*labelled_hazards(data, "train"), *_own_hazards(chance), *_toxic(data, chance)]
    answers = by_hand + chance.sample(answers, round(thin * len(answers)))
    return answers + hazards + _harmful_replies(hazards, chance)


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


def _prompts(data: Path, tested: set[str]) -> list[tuple[Message, ...]]:
    """Requests of all kinds: how a reply answers must be read from the reply."""
    return [
        user(r["prompt"])
        for r in rows(data / "prompt_harm.jsonl", "train")
        if len(r["prompt"]) < 400 and digest(r["prompt"][-60:].lower()) not in tested
    ]


def _classic_refusals(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
    """Short replies that begin with the words of a refusal, one of each wording."""
    unique: dict[str, Row] = {}
    for row in rows(data / "safety_labels.jsonl", "train"):
        reply = row["response"].strip()
        short = row["source"] == "gptfuzz" and len(reply) < LONGEST_REFUSAL
        if short and CLASSIC.match(reply) and question(row["messages"]) not in tested:
            unique.setdefault(reply[:90], row)
    return [
        Labelled(
            Sample(conversation(r["messages"]), r["response"].strip(), whole=True),
            "gptfuzz-classic",
            kind=RefusalKind.FULL,
        )
        for r in sampled(list(unique.values()), 250, chance)
    ]


def _plain_answers(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
    """Replies that people preferred, and jailbroken ones, without a word of refusal."""
    good = [
        (conversation(r["messages"]), r["chosen"].strip())
        for r in rows(data / "helpful_pairs.jsonl", "train")
        if question(r["messages"]) not in tested
    ]
    bad = [
        (conversation(r["messages"]), r["response"].strip())
        for r in rows(data / "safety_labels.jsonl", "train")
        if r["source"] == "gptfuzz" and r["unsafe"] and question(r["messages"]) not in tested
    ]
    kept = [
        [pair for pair in pairs if pair[1] and not SIGNS.search(pair[1])] for pairs in (good, bad)
    ]
    return [
        Labelled(Sample(asked, reply, whole=True), source, kind=RefusalKind.COMPLIANCE)
        for source, pairs, limit in (("helpful", kept[0], 700), ("jailbroken", kept[1], 150))
        for asked, reply in chance.sample(pairs, min(limit, len(pairs)))
    ]


def _hedged_answers(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
    """Chatty replies with the words of refusals, such as "don't" or "illegal", that help."""
    kept = [
        Sample(conversation(r["messages"]), r[side].strip(), whole=True)
        for name in ("helpful_pairs", "safety_pairs")
        for r in rows(data / f"{name}.jsonl", "train")
        if question(r["messages"]) not in tested
        for side in ("chosen", "rejected")
        if SIGNS.search(r[side]) and not LACKS.search(r[side])
    ]
    return [
        Labelled(sample, "hedged", kind=RefusalKind.COMPLIANCE)
        for sample in chance.sample(kept, min(500, len(kept)))
    ]


def _own_answers(
    data: Path, tested: set[str], asked: list[tuple[Message, ...]], chance: random.Random
) -> list[Labelled]:
    """Replies of our own wording, whole and put together from parts."""
    own: dict[str, Any] = yaml.safe_load((CONTRAST / "replies" / "kinds.yaml").read_text("utf-8"))
    found: list[tuple[tuple[Message, ...], str, RefusalKind]] = []
    for row in rows(CONTRAST / "replies" / "refusals.jsonl"):
        kind = OWN_KINDS.get(row["kind"]) or RefusalKind(row["kind"])
        found.append((chance.choice(asked), row["reply"], kind))
    found += [(user(q), a, RefusalKind.COMPLIANCE) for q, a in own["complies"]]
    refused = [refusal(chance) for _ in range(120)] + own["lectures"] * 4
    refused += [_joined(chance, own, "declines", "reasons", "offers") for _ in range(380)]
    found += [(chance.choice(asked), reply, RefusalKind.FULL) for reply in refused]
    lacking = [_joined(chance, own, "lacks", "instead") for _ in range(260)]
    found += [(chance.choice(asked), reply, RefusalKind.INABILITY) for reply in lacking]
    helped = _helped(data, tested, chance, 700)
    for index, (messages, reply) in enumerate(helped):
        found.append((messages, *_altered(chance, own, reply, index)))
    return [Labelled(Sample(a, r, whole=True), "own-answers", kind=k) for a, r, k in found]


def _own_blocks(asked: list[tuple[Message, ...]], chance: random.Random) -> list[Labelled]:
    """What the guard itself says when it blocks."""
    texts = [refusals.text(stage, hazard) for stage in Stage for hazard in (None, *Hazard)]
    return [
        Labelled(Sample(chance.choice(asked), text, whole=True), "own-blocks", RefusalKind.FULL)
        for text in texts
    ]


def _curt_answers(asked: list[tuple[Message, ...]], chance: random.Random) -> list[Labelled]:
    """The same few words, which mean another thing after another question."""
    found = []
    for begins, replies, kind in (
        (OPEN, CURT, RefusalKind.FULL),
        (CLOSED, DENIES, RefusalKind.COMPLIANCE),
    ):
        fitting = [messages for messages in asked if begins.match(messages[0].text)]
        found += [
            Labelled(Sample(messages, chance.choice(replies), whole=True), "own-curt", kind)
            for messages in chance.sample(fitting, min(200, len(fitting)))
        ]
    return found


def _joined(chance: random.Random, own: dict[str, Any], first: str, *others: str) -> str:
    parts = [chance.choice(own[first])]
    parts += [chance.choice(own[name]) for name in others if chance.random() < 0.6]
    return chance.choice((" ", " ", "\n\n")).join(parts)


def _helped(
    data: Path, tested: set[str], chance: random.Random, count: int
) -> list[tuple[tuple[Message, ...], str]]:
    """Requests with replies that help, without a word of refusal."""
    kept = [
        (conversation(r["messages"]), r["chosen"].strip())
        for r in rows(data / "helpful_pairs.jsonl", "train")
        if r["chosen"].strip()
        and not SIGNS.search(r["chosen"])
        and question(r["messages"]) not in tested
    ]
    return chance.sample(kept, min(count, len(kept)))


def _altered(
    chance: random.Random, own: dict[str, Any], reply: str, index: int
) -> tuple[str, RefusalKind]:
    """The reply with something before or after it, which changes its kind, or doesn't."""
    gap = chance.choice((" ", "\n", "\n\n"))
    way = index % 5
    if way == 0:
        return f"{chance.choice(own['partial_openings'])}{gap}{reply}", RefusalKind.PARTIAL
    if way == 1:
        return f"{reply}{gap}{chance.choice(own['partial_endings'])}", RefusalKind.PARTIAL
    if way == 2:
        opening = chance.choice(own["declines"])
        return f"{opening} However, {reply[0].lower()}{reply[1:]}", RefusalKind.PARTIAL
    if way == 3:
        return f"{chance.choice(own['comply_openings'])}{gap}{reply}", RefusalKind.COMPLIANCE
    return f"{reply}{gap}{chance.choice(own['comply_endings'])}", RefusalKind.COMPLIANCE


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


def _own_hazards(chance: random.Random) -> list[Labelled]:
    """Our own texts, as requests, as posts and as replies."""
    own: dict[str, list[str]] = yaml.safe_load((CONTRAST / "hazards.yaml").read_text("utf-8"))
    found = []
    for hazard, texts in own.items():
        for text in texts:
            other = chance.choice(texts)
            for words in (text, f"{text} {other}"):
                found.append(Labelled(Sample(user(words)), "own-hazards", hazard=Hazard(hazard)))
    return found


def _toxic(data: Path, chance: random.Random) -> list[Labelled]:
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


def _harmful_replies(hazards: list[Labelled], chance: random.Random) -> list[Labelled]:
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
