"""What turn 20 of a conversation costs beside turn 3: CPU of gateway and guard.

    python -m loadtests.turns [--requests 8] [--json]

Real reward models before an engine that costs nothing. Both turns are asked in blocks that take
turns, with messages of the same length, so that only the history differs.
"""

import argparse
import json
import os
import statistics
import sys

import aiohttp
import psutil
import uvloop

from loadtests import free_engine
from loadtests.fronted import fronted
from loadtests.servers import cpu_seconds, progress

TURNS = (3, 20)
ROUNDS = 5
_ASKED = "What do time and tide do when nobody waits for them, and who is it that sits there? "
_SAID = free_engine.reply(48)


def conversation(turn: int, number: int) -> list[dict[str, str]]:
    """Messages up to the user's words of one turn, the first being 1."""
    messages = list[dict[str, str]]()
    for before in range(1, turn):
        messages.append({"role": "user", "content": f"{_ASKED * 3}({number}, {before})"})
        messages.append({"role": "assistant", "content": _SAID})
    return [*messages, {"role": "user", "content": f"{_ASKED * 3}({number}, now)"}]


async def block(
    session: aiohttp.ClientSession, url: str, gateway: psutil.Process, turn: int, requests: range
) -> float:
    """Milliseconds of CPU for a request of this turn, asked one after the other."""
    before = cpu_seconds(gateway)
    for number in requests:
        body = {
            "model": free_engine.MODEL,
            "messages": conversation(turn, number),
            "stream": True,
        }
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            await response.read()
    return 1e3 * (cpu_seconds(gateway) - before) / len(requests)


async def run(requests: int) -> dict[str, float]:
    """Medians of the blocks of each turn, and the ratio."""
    cores = os.sched_getaffinity(0)
    costs: dict[int, list[float]] = {turn: [] for turn in TURNS}
    async with (
        aiohttp.ClientSession() as session,
        fronted(
            session,
            "--chunks 64",
            engine_cores=cores,
            gateway_cores=cores,
            settings={"SAFECHAT_GUARD__SCORER": "embedded"},
        ) as both,
    ):
        url, gateway = both.gateway, both.gateway_process
        await block(session, url, gateway, 2, range(5))
        for number in range(ROUNDS):
            progress.log(f"round {number + 1} of {ROUNDS}")
            asked = range(number * requests, (number + 1) * requests)
            for turn in TURNS:
                costs[turn].append(await block(session, url, gateway, turn, asked))
    early, late = (statistics.median(costs[turn]) for turn in TURNS)
    return {f"turn_{TURNS[0]}_ms": early, f"turn_{TURNS[1]}_ms": late, "ratio": late / early}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=8, help="in each block")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        found = uvloop.run(run(options.requests))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"turns: {error}")
    print(json.dumps(found) if options.json else "\n".join(f"{k:12} {found[k]:.2f}" for k in found))


if __name__ == "__main__":
    main()
