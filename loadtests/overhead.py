r"""What the guard costs a user: the gateway against the engine behind it, on the real model.

    python -m loadtests.overhead [--prompts 40] [--json]
    python -m loadtests.overhead --engine http://127.0.0.1:8001 --gateway http://127.0.0.1:8000 \
        --model llama-2-7b-chat

The first form starts the whole system with the bundled model, the second measures one that runs.
Each prompt is asked once on either side, greedily, one request at a time, in an order that
chance swaps for each prompt, so that neither a warm prefix cache nor a drift of the machine
favours one side. Pairs that the guard blocked, or whose replies differ, are counted and left
out: they did not do the same work.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from loadtests.served import MODEL, add_sides, sides
from loadtests.servers import progress
from loadtests.streams import Reply, ask, prompts, question

WARM_UP_PROMPTS = 4
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians in milliseconds; `low` and `high` bound the median difference at 95 %."""

    engine: float
    gateway: float
    difference: float
    low: float
    high: float


async def pairs(
    engine: str, gateway: str, options: argparse.Namespace
) -> list[tuple[Reply, Reply]]:
    """(engine's reply, gateway's reply) to each prompt after the warm-up."""
    chance = random.Random(options.seed)
    asked = prompts(WARM_UP_PROMPTS + options.prompts, chance)
    answered = []
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for number, prompt in enumerate(asked, start=1 - WARM_UP_PROMPTS):
            body = question(options.model, prompt, options.max_tokens)
            both = [("engine", engine, None), ("gateway", gateway, options.api_key)]
            chance.shuffle(both)
            replies = {name: await ask(session, url, body, key) for name, url, key in both}
            if number < 1:
                progress.log(f"warm-up: {number + WARM_UP_PROMPTS} of {WARM_UP_PROMPTS}")
                continue
            answered.append((replies["engine"], replies["gateway"]))
            if number % 5 == 0:
                progress.log(f"{number} of {options.prompts} prompts asked on both sides")
    return answered


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Counts and comparisons of the two that the options name, or of a system started for it."""
    async with sides(options) as (engine, gateway):
        return report(await pairs(engine, gateway, options), options.seed)


def compare(engine: Sequence[float], gateway: Sequence[float], seed: int) -> Comparison:
    """Medians and a paired bootstrap interval of the median difference."""
    differences = np.asarray(gateway) - np.asarray(engine)
    picks = np.random.default_rng(seed).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.quantile(np.median(differences[picks], axis=1), (0.025, 0.975))
    return Comparison(
        engine=float(np.median(engine)),
        gateway=float(np.median(gateway)),
        difference=float(np.median(differences)),
        low=float(low),
        high=float(high),
    )


def report(answered: Sequence[tuple[Reply, Reply]], seed: int) -> dict[str, Any]:
    """Counts and comparisons. Raises RuntimeError when no pair is comparable."""
    blocked = sum(gateway.finish_reason == "content_filter" for _, gateway in answered)
    same = [pair for pair in answered if pair[0].text == pair[1].text]
    if not same:
        raise RuntimeError("no prompt was answered alike on both sides")
    measures = {
        name: compare(
            [getattr(e, name) for e, _ in same], [getattr(g, name) for _, g in same], seed
        )
        for name in ("first", "per_token", "total")
    }
    differing = len(answered) - len(same) - blocked
    counts = {"pairs": len(same), "blocked": blocked, "differing": differing}
    return counts | {f"{name}_ms": asdict(measure) for name, measure in measures.items()}


def table(result: dict[str, Any]) -> Table:
    counts = (
        f"{result['pairs']} pairs ({result['blocked']} blocked, {result['differing']} differing)"
    )
    view = Table("median", title=f"The gateway against its engine, {counts}")
    for heading in ("engine ms", "gateway ms", "difference ms", "95 % interval"):
        view.add_column(heading, justify="right")
    names = {"first_ms": "first text", "per_token_ms": "per token", "total_ms": "whole reply"}
    for key, name in names.items():
        c = Comparison(**result[key])
        middle = (f"{value:.1f}" for value in (c.engine, c.gateway, c.difference))
        view.add_row(name, *middle, f"{c.low:+.1f} … {c.high:+.1f}")
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_sides(parser)
    parser.add_argument("--model", default=MODEL, help="name that both serve it under")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0, help="of the order and the resampling")
    parser.add_argument("--api-key", help="for the gateway")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        result = asyncio.run(run(options))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"overhead: {error}")
    if options.json:
        print(json.dumps(result))
    else:
        Console().print(table(result))


if __name__ == "__main__":
    main()
