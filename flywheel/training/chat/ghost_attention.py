"""Ghost Attention: an instruction given once stays in force (Llama 2, §3.3).

    python -m flywheel.training.chat.ghost_attention --config ghost/small --url URL \
        --served NAME --prompts FILE... --out DIR

Conversations are sampled with the instruction in every user message, so that the model keeps it.
In the rows that come out, it stands in the first turn alone, and sft.py learns nothing but the
last reply of each: the loss is zero on every token of earlier turns, replies included.

Simplifications: the user's side of a conversation is a chain of prompts that have nothing to do
with each other, unless `--dialogues` names real ones. And a model of 135 million parameters
often ignores what it was told: of several samples one is taken that keeps every checkable
instruction, and with `--mend true` a reply that does not is changed by a rule until it does.

`--out` gets `dialogues.jsonl`, `rows.jsonl` for sft.py, and `report.json`: how often the model
kept what it was told at each turn, before any mending. measure_ghost.py says what came of it.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.training.chat import files, instructions, prompts, stage
from flywheel.training.chat.files import Messages
from flywheel.training.chat.instructions import Instruction
from flywheel.training.chat.sampling import Reply, Sampler, SamplerSettings, each, seed_of


class Place(StrEnum):
    """Where the instruction stands in training: as the system prompt, as the gateway sends it,
    or before the first user's words, as in the paper."""

    SYSTEM = "system"
    USER = "user"


class Depth(StrEnum):
    """Which replies of a conversation become rows: the last one, or each one by itself."""

    LAST = "last"
    EACH = "each"


class GhostSettings(SamplerSettings):
    prompts: tuple[Path, ...] = Field((), description="harmless ones are chained to conversations")
    dialogues: tuple[Path, ...] = Field((), description="rows with `messages`, in their place")
    count: int = Field(1000, ge=1, description="conversations")
    turns: int = Field(8, ge=2, description="user messages of a conversation")
    longest: int = Field(300, ge=1, description="characters of a user message")
    samples: int = Field(1, ge=1, description="replies a turn, of which one is taken")
    most: int = Field(3, ge=1, description="instructions combined at once")
    checkable: float = Field(0.3, ge=0, le=1, description="share of conversations with checks")
    mend: bool = Field(False, description="change replies by rule until they keep the check")
    place: Place = Place.SYSTEM
    depth: Depth = Depth.LAST
    out: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """One conversation to be sampled: what the user says, and under which instructions."""

    key: str
    asked: tuple[str, ...]
    chosen: tuple[Instruction, ...]
    text: str


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(GhostSettings, __doc__, argv)
    files.begin(settings.out, settings, [*settings.prompts, *settings.dialogues])
    plans = list(_plans(settings))
    done = asyncio.run(_sample(plans, settings))

    whole = [row for row in done if row["replies"]]
    rows = [row for dialogue in whole for row in training_rows(dialogue, settings)]
    if not rows:
        raise stage.StageError(
            "no conversation kept its instructions: raise --samples, or change replies by rule "
            "with --mend true"
        )
    files.write_rows(settings.out / "rows.jsonl", rows)
    report = {"conversations": len(done), "whole": len(whole), "rows": len(rows)}
    kept = _kept_by_turn(done)
    files.write_json(settings.out / "report.json", {**report, "kept_by_turn": kept})
    print(f"{len(rows)} rows of {len(whole)} conversations; {len(done) - len(whole)} were given up")


def _plans(settings: GhostSettings) -> Iterator[Plan]:
    chance = random.Random(settings.seed)
    for number, asked in enumerate(_user_sides(settings, chance)):
        checked = chance.random() < settings.checkable
        pool = instructions.trained() if checked else instructions.plain()
        chosen = instructions.combined(chance, pool, settings.most)
        yield Plan(
            f"{number:06d}", tuple(asked), tuple(chosen), instructions.written(chance, chosen)
        )


def _user_sides(settings: GhostSettings, chance: random.Random) -> list[list[str]]:
    if settings.dialogues:
        rows = [row for path in settings.dialogues for row in files.read_rows(path)]
        sides = [
            [m["content"] for m in row["messages"] if m["role"] == "user"][: settings.turns]
            for row in rows
        ]
        return [side for side in sides if len(side) > 1][: settings.count]
    read = prompts.read_prompts(settings.prompts, seed=settings.seed, longest=settings.longest)
    harmless = [p.messages[-1][1] for p in read if not p.adversarial]
    if len(harmless) < settings.turns:
        raise stage.StageError(
            f"{len(harmless)} harmless prompts make no conversation of {settings.turns} turns: "
            "name larger files, or lower --turns"
        )
    return [chance.sample(harmless, settings.turns) for _ in range(settings.count)]


async def _sample(plans: Sequence[Plan], settings: GhostSettings) -> list[files.Row]:
    log = files.Log(settings.out / "dialogues.jsonl")
    async with Sampler(settings, settings.served, trim=settings.trim) as sampler:

        async def work(plan: Plan) -> files.Row:
            kept: list[bool] = []
            replies: list[str] = []
            for turn in range(len(plan.asked)):
                messages = concatenated(plan.text, plan.asked[: turn + 1], replies)
                found = await sampler.replies(messages, f"{plan.key} {turn}", settings.samples)
                taken = _take(found, plan, settings, turn)
                kept.append(taken is not None and obeys(taken, plan.chosen))
                if taken is not None and settings.mend:
                    taken = mended(taken, plan.chosen)
                if taken is None or not obeys(taken, plan.chosen):
                    replies = []
                    break
                replies.append(taken)
            return {
                "instruction": plan.text,
                "names": [i.name for i in plan.chosen],
                "checked": any(i.kept for i in plan.chosen),
                "asked": plan.asked,
                "replies": replies,
                "kept": kept,
            }

        return await each(plans, work, log, settings.at_once, "sampling conversations")


def concatenated(instruction: str, asked: Sequence[str], replies: Sequence[str]) -> Messages:
    """The conversation so far, the instruction in every user message."""
    messages: Messages = []
    for turn, said in enumerate(asked):
        messages.append({"role": "user", "content": f"{instruction}\n\n{said}"})
        if turn < len(replies):
            messages.append({"role": "assistant", "content": replies[turn]})
    return messages


def _take(found: Sequence[Reply], plan: Plan, settings: GhostSettings, turn: int) -> str | None:
    """A whole reply that keeps the instructions, else any whole one."""
    whole = [reply.text for reply in found if reply.whole and reply.text]
    obeying = [text for text in whole if obeys(text, plan.chosen)]
    chance = random.Random(seed_of(settings.seed, f"{plan.key} {turn} take"))
    return chance.choice(obeying or whole) if whole else None


def obeys(reply: str, chosen: Sequence[Instruction]) -> bool:
    """Whether the reply keeps every instruction that can be checked."""
    return all(i.kept(reply) for i in chosen if i.kept is not None)


def mended(reply: str, chosen: Sequence[Instruction]) -> str:
    """The reply, changed by rule. Twice over, because one rule may break another's work."""
    for instruction in (*chosen, *chosen):
        if instruction.mended is not None and instruction.kept and not instruction.kept(reply):
            reply = instruction.mended(reply)
    return reply


def training_rows(dialogue: files.Row, settings: GhostSettings) -> list[files.Row]:
    """Rows whose prompt has the instruction once, at the start, and whose completion is learnt."""
    asked, replies = dialogue["asked"], dialogue["replies"]
    messages = opening(dialogue["instruction"], settings.place)
    rows: list[dict[str, Any]] = []
    for turn, (said, reply) in enumerate(zip(asked, replies, strict=True)):
        before = dialogue["instruction"] + "\n\n" if turn == 0 and not messages else ""
        messages = [*messages, {"role": "user", "content": before + said}]
        completion = [{"role": "assistant", "content": reply}]
        rows.append({"key": f"{dialogue['key']}-{turn}", "prompt": messages,
                     "completion": completion})  # fmt: skip
        messages = [*messages, *completion]
    return rows if settings.depth is Depth.EACH else rows[-1:]


def opening(instruction: str, place: Place) -> Messages:
    """What stands before the first user's words."""
    return [{"role": "system", "content": instruction}] if place is Place.SYSTEM else []


def _kept_by_turn(done: Sequence[files.Row]) -> list[float | None]:
    """Share of the checked conversations whose sampled reply kept its instructions, by turn."""
    checked = [row["kept"] for row in done if row["checked"]]
    longest = max(map(len, checked), default=0)
    shares = []
    for turn in range(longest):
        reached = [kept[turn] for kept in checked if len(kept) > turn]
        shares.append(round(sum(reached) / len(reached), 4) if reached else None)
    return shares


if __name__ == "__main__":
    stage.run(main)
