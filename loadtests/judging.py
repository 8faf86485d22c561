"""What one verdict takes: each judge alone on a turn of 128 tokens, by the gateway's own clock.

    python -m loadtests.judging [--requests 50] [--json]

Real reward models, asked one turn after the other through `/v1/score`, in a gateway that has a
core to itself. Times are those of the clock: other work on the machine shows in them.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator

import aiohttp
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from loadtests import free_engine
from loadtests.fronted import fronted
from loadtests.servers import progress

TOKENS = 128
WARM_UP_REQUESTS = 5
# Every word of it is one token of the shipped models.
_TEXT = free_engine.reply(TOKENS // 2)


async def ask(session: aiohttp.ClientSession, url: str, requests: range) -> None:
    """Have turns judged: half of the tokens are the question's, and half the reply's."""
    for number in requests:
        asked = f"{number} {_TEXT.partition(' ')[2]}"
        said = [{"role": "user", "content": asked}, {"role": "assistant", "content": _TEXT}]
        body = {"input": {"messages": said}}
        async with session.post(f"{url}/v1/score", json=body) as response:
            response.raise_for_status()
            await response.read()


async def spent(session: aiohttp.ClientSession, url: str) -> dict[str, tuple[float, float]]:
    """Seconds and calls of each judge so far."""
    async with session.get(f"{url}/metrics") as response:
        text = await response.text()
    name = "safechat_guard_batch_seconds"

    def of(suffix: str) -> Iterator[tuple[str, float]]:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{name}_{suffix}":
                    yield sample.labels["axis"], sample.value

    calls = dict(of("count"))
    return {axis: (seconds, calls[axis]) for axis, seconds in of("sum")}


async def run(requests: int) -> dict[str, float]:
    """Milliseconds of a call, by judge."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    async with (
        aiohttp.ClientSession() as session,
        fronted(
            session,
            "--chunks 8",
            engine_cores=cores[:1],
            gateway_cores=cores[-1:],
            settings={"SAFECHAT_GUARD__SCORER": "embedded"},
        ) as both,
    ):
        await ask(session, both.gateway, range(WARM_UP_REQUESTS))
        before = await spent(session, both.gateway)
        progress.log(f"{requests} turns of {TOKENS} tokens")
        await ask(session, both.gateway, range(WARM_UP_REQUESTS, WARM_UP_REQUESTS + requests))
        after = await spent(session, both.gateway)
    return {
        axis: 1e3 * (seconds - before[axis][0]) / (calls - before[axis][1])
        for axis, (seconds, calls) in after.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        found = uvloop.run(run(options.requests))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"judging: {error}")
    print(json.dumps(found) if options.json else "\n".join(f"{k:12} {found[k]:.2f}" for k in found))


if __name__ == "__main__":
    main()
