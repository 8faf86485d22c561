"""Rejection sampling: of K replies to each prompt, the best one is learnt (Llama 2, §3.2.3).

    python -m flywheel.training.chat.rejection --config rejection/small --url URL --served NAME \
        --version V1 --prompts FILE... --out DIR

The newest model samples K replies a prompt on vLLM, the guard scores them, and the best by the
combined reward goes into `best.jsonl`, which sft.py reads. `--earlier` names the samples of
earlier versions: they compete for their prompts, because the paper's V3, trained on its own
samples alone, had forgotten things. A reply that was cut off is never a candidate.

Simplifications: smaller models learn from their own samples; the paper has the largest one
sample. And of few samples of a small model none may be safe: `--adversarial false` leaves such
prompts to distillation.

`--out` gets `samples.jsonl` (all samples with scores), `best.jsonl`, `report.json`, and
`curve.png`: the mean over prompts of the highest and of the median reward among k samples.
"""

import asyncio
from collections.abc import Iterator, Sequence
from math import comb
from pathlib import Path
from statistics import fmean, median

from pydantic import Field

from flywheel.training.chat import files, prompts, stage
from flywheel.training.chat.judge import Judge, JudgeSettings
from flywheel.training.chat.plots import lines
from flywheel.training.chat.prompts import Prompt
from flywheel.training.chat.sampling import Sampler, SamplerSettings, each


class RejectionSettings(SamplerSettings, JudgeSettings):
    prompts: tuple[Path, ...] = Field(description="JSON lines files")
    limit: int = Field(1000, ge=1, description="prompts, sources taking turns")
    longest: int = Field(2000, ge=1, description="characters of a prompt")
    adversarial: bool = Field(True, description="take adversarial prompts too")
    samples: int = Field(16, ge=1, description="K: replies a prompt")
    least: float = Field(0.0, ge=0, le=1, description="drop a best reply of less reward")
    version: str = Field(description="of the model that samples, as V1")
    earlier: tuple[Path, ...] = Field((), description="samples.jsonl of earlier versions")
    out: Path


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(RejectionSettings, __doc__, argv)
    files.begin(settings.out, settings, settings.prompts)
    read = prompts.read_prompts(settings.prompts, seed=settings.seed, longest=settings.longest)
    wanted = [p for p in read if settings.adversarial or not p.adversarial]
    chosen = prompts.balanced(wanted, settings.limit)
    if not chosen:
        raise stage.StageError("no prompt is harmless: take --adversarial true, or other files")
    judge = Judge.load(settings)

    rows = asyncio.run(_sample(chosen, judge, settings))
    pool = _pool(rows, [files.read_rows(path) for path in settings.earlier])
    best = list(_best(pool, settings.least))
    if not best:
        raise stage.StageError(
            f"no reply was whole and worth {settings.least} or more: lower --least, or raise "
            "--tokens and --samples"
        )
    files.write_rows(settings.out / "best.jsonl", best)

    highest, middle = curve([[s["reward"] for s in row["samples"]] for row in rows])
    drawn = {"highest of k": highest, "median of k": middle}
    lines(settings.out / "curve.png", drawn, "k, samples a prompt", "combined reward")
    report = {
        "prompts": len(rows),
        "kept": len(best),
        "judges": judge.models,
        "versions": {v: sum(b["version"] == v for b in best) for v in {b["version"] for b in best}},
        "highest_by_k": highest,
        "median_by_k": middle,
    }
    files.write_json(settings.out / "report.json", report)
    print(f"{len(best)} of {len(rows)} prompts: reward {middle[-1]:.3f} in the middle of "
          f"{settings.samples}, {highest[-1]:.3f} at best")  # fmt: skip


async def _sample(
    chosen: Sequence[Prompt], judge: Judge, settings: RejectionSettings
) -> list[files.Row]:
    log = files.Log(settings.out / "samples.jsonl")
    async with Sampler(settings, settings.served, trim=settings.trim) as sampler:

        async def work(prompt: Prompt) -> files.Row:
            replies = await sampler.replies(prompt.chat, prompt.key, settings.samples)
            found = []
            for reply in replies:
                worth = await asyncio.to_thread(
                    judge.worth, prompt.chat, reply.text, adversarial=prompt.adversarial
                )
                found.append({"text": reply.text, "whole": reply.whole, **worth.row()})
            return {
                "prompt": prompt.chat,
                "adversarial": prompt.adversarial,
                "source": prompt.source,
                "version": settings.version,
                "samples": found,
            }

        return await each(chosen, work, log, settings.at_once, f"sampling {settings.version}")


def _pool(rows: list[files.Row], earlier: Sequence[list[files.Row]]) -> dict[str, list[files.Row]]:
    """All rows about one prompt, those of the newest version first."""
    pool: dict[str, list[files.Row]] = {}
    for row in [*rows, *(row for group in earlier for row in group)]:
        pool.setdefault(row["key"], []).append(row)
    return pool


def _best(pool: dict[str, list[files.Row]], least: float) -> Iterator[files.Row]:
    for key, rows in pool.items():
        candidates = [
            (sample, row) for row in rows for sample in row["samples"]
            if sample["whole"] and sample["text"]
        ]  # fmt: skip
        if not candidates:
            continue
        # The first of equals: the newest version's.
        sample, row = max(candidates, key=lambda pair: pair[0]["reward"])
        if sample["reward"] >= least:
            yield {
                "key": key,
                "prompt": row["prompt"],
                "completion": [{"role": "assistant", "content": sample["text"]}],
                "version": row["version"],
                **{name: sample[name] for name in ("safety", "helpfulness", "reward")},
            }


def curve(rewards: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Mean over prompts of the expected highest, and of the median, reward of k samples.

    rewards: K of each prompt; prompts with fewer are left out. The highest is exact over all
    subsets of size k; the median is that of the first k.
    """
    size = max((len(row) for row in rewards), default=0)
    full = [row for row in rewards if len(row) == size]
    highest = [fmean(_expected_highest(row, k) for row in full) for k in range(1, size + 1)]
    middle = [fmean(median(row[:k]) for row in full) for k in range(1, size + 1)]
    return highest, middle


def _expected_highest(rewards: Sequence[float], k: int) -> float:
    """Of k drawn without replacement: the i-th smallest is the highest in comb(i, k - 1) sets."""
    total = comb(len(rewards), k)
    return sum(comb(i, k - 1) * reward for i, reward in enumerate(sorted(rewards))) / total


if __name__ == "__main__":
    stage.run(main)
