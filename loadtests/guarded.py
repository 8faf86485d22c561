r"""What the guard costs under load: the gateway against its own engine, on the real model.

    python -m loadtests.guarded [--streams 1 4 16 64] [--rounds 3] [--json]

Starts `safechat serve` with the bundled model, as its users do, so that engine, gateway and
guard share the machine's cores. Both sides are asked the same questions, greedily, in blocks
that take turns; chance decides who begins. Other work on the machine slows both sides, so
read the ratios; CPU time is that of the processes alone. With SAFECHAT_GUARD__TIMEOUT_S=60 a
busy machine makes the guard slow, and does not make it fail.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

import aiohttp
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.served import MODEL, Served, opened
from loadtests.servers import cpu_seconds, progress
from loadtests.streams import Reply, ask, prompts, question


@dataclass(frozen=True, slots=True)
class Block:
    """One side under one load. Times in ms; CPU in ms for each generated token."""

    side: str
    streams: int
    tokens_per_second: float
    first_ms: float
    first_ms_p95: float
    per_token_ms: float
    engine_cpu_ms: float
    gateway_cpu_ms: float
    blocked: int


async def block(
    session: aiohttp.ClientSession, served: Served, side: str, streams: int, asked: Sequence[str]
) -> Block:
    """Ask all questions, `streams` at a time."""
    url = served.engine if side == "engine" else served.gateway
    waiting, replies = iter(asked), list[Reply]()

    async def user() -> None:
        for prompt in waiting:
            replies.append(await ask(session, url, question(MODEL, prompt, max_tokens=64)))

    before = cpu_seconds(served.engine_process), cpu_seconds(served.gateway_process, children=False)
    begun = perf_counter()
    await asyncio.gather(*(user() for _ in range(streams)))
    took = perf_counter() - begun
    tokens = sum(reply.tokens for reply in replies)
    after = cpu_seconds(served.engine_process), cpu_seconds(served.gateway_process, children=False)
    engine, gateway = (1e3 * (a - b) / tokens for a, b in zip(after, before, strict=True))
    firsts = [reply.first for reply in replies]
    return Block(
        side=side,
        streams=streams,
        tokens_per_second=tokens / took,
        first_ms=statistics.median(firsts),
        first_ms_p95=statistics.quantiles(firsts, n=20)[-1],
        per_token_ms=statistics.median(reply.per_token for reply in replies),
        engine_cpu_ms=engine,
        gateway_cpu_ms=gateway,
        blocked=sum(reply.finish_reason == "content_filter" for reply in replies),
    )


async def measure(
    session: aiohttp.ClientSession,
    served: Served,
    levels: Sequence[int],
    rounds: int,
    seed: int,
) -> list[Block]:
    """All blocks, in the order in which they ran."""
    chance, blocks = random.Random(seed), list[Block]()
    for side in ("engine", "gateway"):
        await block(session, served, side, 4, prompts(8, chance))
    for streams in levels:
        for number in range(rounds):
            asked = prompts(min(max(6, 2 * streams), 60), chance)
            asked += prompts(max(0, streams - len(asked)), chance)
            sides = ["engine", "gateway"]
            chance.shuffle(sides)
            progress.log(f"{streams} streams, round {number + 1} of {rounds}")
            blocks += [await block(session, served, s, streams, asked) for s in sides]
    return blocks


async def run(levels: Sequence[int], rounds: int, seed: int) -> list[Block]:
    """Start the whole system, and measure both sides of it."""
    timeout = aiohttp.ClientTimeout(total=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        opened() as served,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        return await measure(session, served, levels, rounds, seed)


def summary(blocks: Sequence[Block]) -> list[dict[str, float]]:
    """Medians over the rounds of each level, and the ratio of throughput with its range."""
    rows = []
    for streams in sorted({b.streams for b in blocks}):
        sides = {
            side: [b for b in blocks if b.streams == streams and b.side == side]
            for side in ("engine", "gateway")
        }
        pairs = list(zip(sides["gateway"], sides["engine"], strict=True))
        ratios = [g.tokens_per_second / e.tokens_per_second for g, e in pairs]
        row: dict[str, float] = {"streams": streams}
        for name in ("tokens_per_second", "first_ms", "per_token_ms"):
            for side, those in sides.items():
                row[f"{side}_{name}"] = statistics.median(getattr(b, name) for b in those)
        direct = statistics.median(b.engine_cpu_ms for b in sides["engine"])
        guarded = statistics.median(b.engine_cpu_ms + b.gateway_cpu_ms for b in sides["gateway"])
        rows.append(
            row
            | {
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
                "first_ms_more": statistics.median(g.first_ms - e.first_ms for g, e in pairs),
                "engine_cpu_ms": direct,
                "gateway_cpu_ms": statistics.median(b.gateway_cpu_ms for b in sides["gateway"]),
                "cpu_ratio": direct / guarded,
                "blocked": sum(b.blocked for b in sides["gateway"]),
            }
        )
    return rows


def table(rows: Sequence[dict[str, float]]) -> Table:
    view = Table("streams", title="The gateway against its engine", box=box.SIMPLE)
    headings = "tokens/s engine", "gateway", "ratio", "TTFT ms engine", "gateway", "more"
    for heading in (*headings, "ms a token engine", "gateway", "CPU ms a token", "of the gateway"):
        view.add_column(heading, justify="right")
    for r in rows:
        ratio = f"{r['ratio']:.2f} ({r['ratio_low']:.2f}–{r['ratio_high']:.2f})"
        firsts = "engine_first_ms", "gateway_first_ms", "first_ms_more"
        costs = "engine_per_token_ms", "gateway_per_token_ms", "engine_cpu_ms", "gateway_cpu_ms"
        speeds = (f"{r[f'{side}_tokens_per_second']:.0f}" for side in ("engine", "gateway"))
        view.add_row(
            f"{r['streams']:.0f}", *speeds, ratio, *(f"{r[n]:.2f}" for n in firsts + costs)
        )
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=3, help="blocks of each side and level")
    parser.add_argument("--seed", type=int, default=0, help="of the questions and the order")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        blocks = uvloop.run(run(options.streams, options.rounds, options.seed))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"guarded: {error}")
    rows = summary(blocks)
    if options.json:
        print(json.dumps({"levels": rows, "blocks": [asdict(b) for b in blocks]}))
    else:
        Console().print(table(rows))


if __name__ == "__main__":
    main()
