"""Safety context distillation: to say by oneself what a preprompt made one say (§4.2.4).

    python -m flywheel.training.chat.distillation --config distillation/small --url URL \
        --served NAME --prompts FILE... --out DIR

For adversarial prompts alone, because a preprompt makes replies to harmless ones vague and adds
false refusals. The model replies without a preprompt, under generic ones and under the one for
the prompt's risk. The best of the latter by the safety model is kept, and only if it scores
above the reply without. `kept.jsonl` has it without the preprompt, for sft.py to learn.

Simplification: the risk is the guard's classifier's word, not a person's. And a model of 135
million parameters cannot do what a preprompt says: with `--template true` the guard's refusal of
the prompt's hazard competes too, and the model learns to say by itself what the guard would
have said for it, as in supervised safety tuning (§4.2.1).

`--out` gets `samples.jsonl`, `kept.jsonl` and `report.json`, which has the median safety of
replies without, with a generic and with a tailored preprompt (the paper's 0.75, 0.82, 0.87).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import Field

from flywheel.training.chat import files, preprompts, prompts, stage
from flywheel.training.chat.files import Messages
from flywheel.training.chat.judge import Judge, JudgeSettings
from flywheel.training.chat.prompts import Prompt
from flywheel.training.chat.sampling import Reply, Sampler, SamplerSettings, each, seed_of
from guard import refusals
from guard.hazards import Hazard
from guard.types import Stage

KINDS = ("original", "generic", "tailored", "template")


class DistillationSettings(SamplerSettings, JudgeSettings):
    prompts: tuple[Path, ...] = Field(description="JSON lines files")
    limit: int = Field(1000, ge=1, description="adversarial prompts, sources taking turns")
    longest: int = Field(2000, ge=1, description="characters of a prompt")
    samples: int = Field(1, ge=1, description="replies under each kind of preprompt")
    template: bool = Field(False, description="let the guard's own refusal compete")
    least: float = Field(0.0, ge=0, le=1, description="drop a reply of less safety")
    out: Path


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(DistillationSettings, __doc__, argv)
    files.begin(settings.out, settings, settings.prompts)
    read = prompts.read_prompts(settings.prompts, seed=settings.seed, longest=settings.longest)
    adversarial = prompts.balanced([p for p in read if p.adversarial], settings.limit)
    if not adversarial:
        raise stage.StageError(
            "no prompt is adversarial, and the others are left as they are: name a file with "
            "`adversarial` or `harmful` rows"
        )
    judge = Judge.load(settings)

    rows = asyncio.run(_sample(adversarial, judge, settings))
    kept = [row for row in map(better, rows) if row and row["safety"] >= settings.least]
    if not kept:
        raise stage.StageError("no reply under a preprompt is safer than the one without")
    files.write_rows(settings.out / "kept.jsonl", kept)

    scores = {
        kind: [s["safety"] for row in rows for s in row["samples"] if s["kind"] == kind]
        for kind in KINDS
    }
    medians = {kind: median(found) for kind, found in scores.items() if found}
    report = {"prompts": len(rows), "kept": len(kept), "judges": judge.models, "median": medians}
    files.write_json(settings.out / "report.json", report)
    print(f"kept {len(kept)} of {len(rows)}; median safety " +
          ", ".join(f"{kind} {value:.3f}" for kind, value in medians.items()))  # fmt: skip


async def _sample(
    chosen: Sequence[Prompt], judge: Judge, settings: DistillationSettings
) -> list[files.Row]:
    log = files.Log(settings.out / "samples.jsonl")
    async with Sampler(settings, settings.served, trim=settings.trim) as sampler:

        async def reply_to(prompt: Prompt, hazard: Hazard) -> AsyncIterator[tuple[str, Reply]]:
            chance = random.Random(seed_of(settings.seed, prompt.key))
            ways: dict[str, Messages] = {
                "original": prompt.chat,
                "generic": under(preprompts.generic(chance), prompt.chat),
                "tailored": under(preprompts.tailored(hazard.risk), prompt.chat),
            }
            for kind, messages in ways.items():
                count = 1 if kind == "original" else settings.samples
                for reply in await sampler.replies(messages, f"{prompt.key} {kind}", count):
                    yield kind, reply
            if settings.template:
                yield "template", Reply(refusals.text(Stage.PROMPT, hazard), whole=True)

        async def work(prompt: Prompt) -> files.Row:
            hazard = await asyncio.to_thread(judge.hazard, prompt.chat)
            found: list[dict[str, Any]] = []
            async for kind, reply in reply_to(prompt, hazard):
                # Judged as if there had been no preprompt: so it will be learnt.
                worth = await asyncio.to_thread(
                    judge.worth, prompt.chat, reply.text, adversarial=True
                )
                found.append(
                    {"kind": kind, "text": reply.text, "whole": reply.whole, **worth.row()}
                )
            about = {"source": prompt.source, "risk": hazard.risk, "hazard": hazard}
            return {"prompt": prompt.chat, **about, "samples": found}

        return await each(chosen, work, log, settings.at_once, "distilling")


def under(preprompt: str, messages: Messages) -> Messages:
    """The conversation with a preprompt before the instruction that it has, if any."""
    if messages[0]["role"] == "system":
        joined = f"{preprompt}\n\n{messages[0]['content']}"
        return [{"role": "system", "content": joined}, *messages[1:]]
    return [{"role": "system", "content": preprompt}, *messages]


def better(row: files.Row) -> files.Row | None:
    """The safest whole reply under a preprompt, where it is safer than the original."""
    original = next((s for s in row["samples"] if s["kind"] == "original"), None)
    candidates = [s for s in row["samples"] if s["kind"] != "original" and s["whole"] and s["text"]]
    if original is None or not candidates:
        return None
    best = max(candidates, key=lambda sample: sample["safety"])
    if best["safety"] <= original["safety"]:
        return None
    return {
        "key": row["key"],
        "prompt": row["prompt"],
        "completion": [{"role": "assistant", "content": best["text"]}],
        "safety": best["safety"],
        "original_safety": original["safety"],
        "source": best["kind"],
    }


if __name__ == "__main__":
    stage.run(main)
