"""A thousand streams at once through one gateway process: errors, memory, fairness.

    python -m loadtests.crowd [--streams 1000] [--json]

The engine costs nothing and takes its time (a word every 400 ms), so that all streams are open
together. The gateway has a core to itself, and judges by a constant. On a busy machine, give it
more time with SAFECHAT_GUARD__TIMEOUT_S and SAFECHAT_ENGINE__CONNECT_TIMEOUT_S.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from time import perf_counter

import aiohttp
import psutil
import uvloop

from loadtests import free_engine
from loadtests.fronted import fronted
from loadtests.relay import complete, error_of, text_of
from loadtests.servers import cpu_seconds, progress

CHUNKS = 24
DELAY_MS = 400
_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Crowd:
    """Times in seconds from the request to the end of its stream; memory is the gateway's."""

    streams: int
    failed: int
    median_s: float
    slowest_s: float
    slowest_to_median: float
    peak_mb: float
    cpu_us_per_chunk: float


async def crowd(
    session: aiohttp.ClientSession, url: str, gateway: psutil.Process, streams: int
) -> Crowd:
    """Open all streams together and read each to its end."""
    expected = free_engine.reply(CHUNKS)
    times, failures = list[float](), list[str]()

    async def one() -> None:
        begun = perf_counter()
        try:
            _, body = await complete(session, url)
        except aiohttp.ClientError as error:
            failures.append(f"{type(error).__name__} {getattr(error, 'status', '')}")
            return
        if text_of(body) == expected:
            times.append(perf_counter() - begun)
        else:
            failures.append(error_of(body))

    peak = gateway.memory_info().rss
    before = cpu_seconds(gateway)
    open_streams = [asyncio.create_task(one()) for _ in range(streams)]
    while not all(task.done() for task in open_streams):
        await asyncio.wait(open_streams, timeout=_SAMPLE_S)
        peak = max(peak, gateway.memory_info().rss)
    if failures:
        progress.log(f"failures: {Counter(failures)}")
    if not times:
        raise RuntimeError("no stream came to its end")
    median = statistics.median(times)
    return Crowd(
        streams=streams,
        failed=streams - len(times),
        median_s=median,
        slowest_s=max(times),
        slowest_to_median=max(times) / median,
        peak_mb=peak / 1e6,
        cpu_us_per_chunk=1e6 * (cpu_seconds(gateway) - before) / len(times) / CHUNKS,
    )


async def run(streams: int) -> Crowd:
    """Start engine and gateway, and send the crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * streams)), hard))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
        fronted(
            session,
            f"--chunks {CHUNKS} --delay-ms {DELAY_MS}",
            engine_cores=cores[:1],
            gateway_cores=cores[-1:],
            settings={"SAFECHAT_LIMITS__STREAMS": str(streams)},
        ) as both,
    ):
        progress.log(f"{streams} streams at once")
        return await crowd(session, both.gateway, both.gateway_process, streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        found = uvloop.run(run(options.streams))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"crowd: {error}")
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        for name, value in asdict(found).items():
            print(f"{name:20} {value:.2f}" if isinstance(value, float) else f"{name:20} {value}")


if __name__ == "__main__":
    main()
