"""Does an instruction given once still hold at turns 2, 4, 6, … 20? (Llama 2, Table 30)

    python -m flywheel.training.chat.measure_ghost --config ghost/measure --url URL \
        --served BASE TRAINED --prompts FILE... --out DIR

Each model talks with a scripted user for `--turns` turns under one checkable instruction that
was given at the start, as the system prompt or in the first user message. Programs, not judges,
say whether each reply keeps it. The instructions are those of training and unseen ones, counted
apart; the questions should be of a split that nothing was trained on.

`--served` names models of one engine: V0, and the adapters of later versions. A model may be
named `NAME@concatenate`: then every user message carries the instruction, as `ghost.mode =
"concatenate"` of the gateway does.

`--out` gets `table.md`, `kept.png`, `report.json` (with 95 % bootstrap intervals over
conversations) and a log for each model, from which a killed run goes on.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from flywheel.training.chat import files, instructions, prompts, stage
from flywheel.training.chat.ghost_attention import Place, concatenated, opening
from flywheel.training.chat.instructions import Instruction
from flywheel.training.chat.plots import lines
from flywheel.training.chat.sampling import EngineSettings, Sampler, each

CONCATENATE = "@concatenate"


class MeasureSettings(EngineSettings):
    served: tuple[str, ...] = Field(description="names of the models")
    prompts: tuple[Path, ...] = Field(description="harmless ones are the user's side")
    split: str = Field("dev", description="of the prompts")
    instructions: int = Field(20, ge=1, description="at most, of training and unseen ones each")
    conversations: int = Field(4, ge=1, description="of each instruction")
    turns: int = Field(20, ge=2)
    longest: int = Field(160, ge=1, description="characters of a user message")
    place: Place = Place.SYSTEM
    out: Path


@dataclass(frozen=True, slots=True)
class Talk:
    key: str
    instruction: Instruction
    unseen: bool
    asked: tuple[str, ...]


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(MeasureSettings, __doc__, argv)
    files.begin(settings.out, settings, settings.prompts)
    talks = _talks(settings)
    kept = {name: asyncio.run(_measure(name, talks, settings)) for name in settings.served}

    places = [1, *range(2, settings.turns + 1, 2)]
    report = {name: _groups(talks, rows, places) for name, rows in kept.items()}
    files.write_json(settings.out / "report.json", {"turns": places, "kept": report})
    (settings.out / "table.md").write_text(table(report, places), encoding="utf-8")
    drawn = {
        f"{name}, {group}": [nan if cell["share"] is None else cell["share"] for cell in cells]
        for name, groups in report.items()
        for group, cells in groups.items()
    }
    lines(settings.out / "kept.png", drawn, "turn", "instruction kept", places=places)
    print(table(report, places))


def _talks(settings: MeasureSettings) -> list[Talk]:
    read = prompts.read_prompts(
        settings.prompts, seed=settings.seed, split=settings.split, longest=settings.longest
    )
    harmless = [p.messages[-1][1] for p in read if not p.adversarial]
    if len(harmless) < settings.turns:
        raise stage.StageError(
            f"{len(harmless)} harmless prompts make no conversation of {settings.turns} turns"
        )
    chance = random.Random(settings.seed)
    pools = ((False, instructions.trained()), (True, instructions.unseen()))
    return [
        Talk(f"{i.name} {n}", i, unseen, tuple(chance.sample(harmless, settings.turns)))
        for unseen, pool in pools
        for i in chance.sample(pool, min(len(pool), settings.instructions))
        for n in range(settings.conversations)
    ]


async def _measure(name: str, talks: Sequence[Talk], settings: MeasureSettings) -> list[files.Row]:
    log = files.Log(settings.out / f"{name.replace('/', '_')}.jsonl")
    async with Sampler(settings, name.removesuffix(CONCATENATE)) as sampler:

        async def work(talk: Talk) -> files.Row:
            text, replies = talk.instruction.full, list[str]()
            for turn in range(settings.turns):
                asked = talk.asked[: turn + 1]
                if name.endswith(CONCATENATE):
                    messages = concatenated(text, asked, replies)
                else:
                    messages = given_once(text, asked, replies, settings.place)
                found = await sampler.replies(messages, f"{talk.key} {turn}")
                if not found:
                    break  # the conversation is longer than the model's context
                replies.append(found[0].text)
            check = talk.instruction.kept
            assert check is not None
            return {"kept": [check(reply) for reply in replies]}

        return await each(talks, work, log, settings.at_once, name)


def given_once(
    instruction: str, asked: Sequence[str], replies: Sequence[str], place: Place
) -> files.Messages:
    """The conversation so far, the instruction at its start alone."""
    messages = opening(instruction, place)
    for turn, said in enumerate(asked):
        before = f"{instruction}\n\n" if not messages else ""
        messages.append({"role": "user", "content": before + said})
        if turn < len(replies):
            messages.append({"role": "assistant", "content": replies[turn]})
    return messages


def _groups(
    talks: Sequence[Talk], rows: Sequence[files.Row], places: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[list[bool]]] = {"trained": [], "unseen": []}
    for talk, row in zip(talks, rows, strict=True):
        found["unseen" if talk.unseen else "trained"].append(row["kept"])
    return {group: _by_turn(kept, places) for group, kept in found.items()}


def _by_turn(rows: Sequence[Sequence[bool]], places: Sequence[int]) -> list[dict[str, Any]]:
    """Share kept at each turn, over the conversations that reached it, and its interval."""
    chance = np.random.default_rng(0)
    cells: list[dict[str, Any]] = []
    for turn in places:
        reached = np.array([row[turn - 1] for row in rows if len(row) >= turn], float)
        if not reached.size:
            cells.append({"share": None, "n": 0, "low": None, "high": None})
            continue
        draws = chance.choice(reached, (2000, reached.size)).mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        cells.append(
            {
                "share": round(float(reached.mean()), 4),
                "n": int(reached.size),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
            }
        )
    return cells


def table(report: dict[str, dict[str, list[dict[str, Any]]]], places: Sequence[int]) -> str:
    """Markdown: a row for each model and group, a column for each turn, in per cent."""
    head = ["model", "instructions", *(f"turn {turn}" for turn in places)]
    rows = [head, ["---"] * len(head)]
    for name, groups in report.items():
        for group, cells in groups.items():
            shares = [f"{100 * c['share']:.0f}" if c["n"] else "–" for c in cells]
            rows.append([name, group, *shares])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    stage.run(main)
