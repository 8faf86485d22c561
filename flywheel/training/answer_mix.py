"""Replies whose kind of answer follows from where they were found, or from our own wording."""

import random
import re
from pathlib import Path
from typing import Any

import yaml

from flywheel.training.data import Row, conversation, rows, sampled, user
from flywheel.training.labelled import CONTRAST, Labelled, question
from flywheel.training.wording import refusal
from guard import refusals
from guard.hazards import Hazard
from guard.types import Message, RefusalKind, Sample, Stage

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


def classic_refusals(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
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


def plain_answers(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
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


def hedged_answers(data: Path, tested: set[str], chance: random.Random) -> list[Labelled]:
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


def own_answers(
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


def own_blocks(asked: list[tuple[Message, ...]], chance: random.Random) -> list[Labelled]:
    """What the guard itself says when it blocks."""
    texts = [refusals.text(stage, hazard) for stage in Stage for hazard in (None, *Hazard)]
    return [
        Labelled(Sample(chance.choice(asked), text, whole=True), "own-blocks", RefusalKind.FULL)
        for text in texts
    ]


def curt_answers(asked: list[tuple[Message, ...]], chance: random.Random) -> list[Labelled]:
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
