"""What relaying costs: the gateway's CPU per streamed chunk, its models stubbed out.

    python -m loadtests.relay [--json] [--chunks 64] [--seconds 5] [--gateway-cmd "..."]

A free engine and this client share one core, the gateway has another to itself. The same
load runs against the engine directly first: that is the floor of the client's own figures.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import psutil
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from loadtests import free_engine
from loadtests.fronted import GATEWAY_COMMAND, fronted
from loadtests.servers import cpu_seconds, progress

CONCURRENCIES = (1, 8, 32)
WARM_UP_REQUESTS = 32

_CONTENT = re.compile(rb'"content": ?"[^"]')


@dataclass(frozen=True, slots=True)
class Cost:
    """One level of load against one server. CPU is that of the server's process tree."""

    concurrency: int
    requests: int
    failed: int
    requests_per_second: float
    cpu_ms_per_request: float
    cpu_us_per_chunk: float
    ttft_ms: float
    ttft_ms_p95: float


async def complete(session: aiohttp.ClientSession, url: str) -> tuple[float | None, bytes]:
    """One streamed completion: seconds to the first content, and the whole body."""
    body = {
        "model": free_engine.MODEL,
        "messages": [{"role": "user", "content": "What do time and tide do?"}],
        "stream": True,
    }
    begun, first, seen = time.perf_counter(), None, bytearray()
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for piece in response.content.iter_any():
            seen += piece
            if first is None and _CONTENT.search(seen):
                first = time.perf_counter() - begun
    return first, bytes(seen)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, without its last one."""
    events = (part.removeprefix(b"data: ") for part in body.split(b"\n\n"))
    return [json.loads(event) for event in events if event and event != b"[DONE]"]


def text_of(body: bytes) -> str:
    """The reply in an event stream."""
    deltas = [c["delta"] for event in events_of(body) for c in event.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


def error_of(body: bytes) -> str:
    """The type of the error that an event stream tells of, or what it lacks."""
    errors = [event["error"] for event in events_of(body) if "error" in event]
    return str(errors[0].get("type")) if errors else "another reply"


async def drive(
    session: aiohttp.ClientSession, url: str, concurrency: int, seconds: float
) -> tuple[list[float], int, float]:
    """Closed-loop load: times to first content, number of failures, seconds it took."""
    begun = time.perf_counter()
    firsts: list[float] = []
    failed = 0

    async def worker() -> None:
        nonlocal failed
        while time.perf_counter() - begun < seconds:
            try:
                first, body = await complete(session, url)
            except aiohttp.ClientError:
                failed += 1
                continue
            if first is None or not body.endswith(b"data: [DONE]\n\n"):
                failed += 1
            else:
                firsts.append(first)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return firsts, failed, time.perf_counter() - begun


async def measure(
    session: aiohttp.ClientSession,
    url: str,
    process: psutil.Process,
    chunks: int,
    seconds: float,
    levels: Sequence[int] = CONCURRENCIES,
) -> list[Cost]:
    """The cost at each concurrency. Raises RuntimeError when replies are not what was sent."""
    for _ in range(WARM_UP_REQUESTS):
        _, body = await complete(session, url)
        if text_of(body) != free_engine.reply(chunks):
            raise RuntimeError(f"{url} changed the reply: {text_of(body)[:80]!r}")
    costs = []
    for concurrency in levels:
        progress.log(f"{url}: {concurrency} at a time for {seconds:g} s")
        before = cpu_seconds(process)
        firsts, failed, took = await drive(session, url, concurrency, seconds)
        used = cpu_seconds(process) - before
        if len(firsts) < 2:
            raise RuntimeError(f"{url}: {failed} requests failed, {len(firsts)} did not")
        costs.append(
            Cost(
                concurrency=concurrency,
                requests=len(firsts),
                failed=failed,
                requests_per_second=len(firsts) / took,
                cpu_ms_per_request=1e3 * used / len(firsts),
                cpu_us_per_chunk=1e6 * used / len(firsts) / chunks,
                ttft_ms=1e3 * statistics.median(firsts),
                ttft_ms_p95=1e3 * statistics.quantiles(firsts, n=20)[-1],
            )
        )
    return costs


async def run(command: str, chunks: int, seconds: float) -> dict[str, list[Cost]]:
    """Measure the engine asked directly, then the gateway before it."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        fronted(
            session,
            f"--chunks {chunks}",
            engine_cores=cores[:1],
            gateway_cores=cores[-1:],
            command=command,
        ) as both,
    ):
        engine, gateway = both.engine_process, both.gateway_process
        return {
            "engine": await measure(session, both.engine, engine, chunks, seconds),
            "gateway": await measure(session, both.gateway, gateway, chunks, seconds),
        }


def table(results: dict[str, list[Cost]], chunks: int) -> Table:
    title = f"Relaying a reply of {chunks} chunks"
    view = Table("server", title=title, box=box.SIMPLE)
    headings = "at once", "requests", "failed", "per second", "CPU ms/ request"
    for heading in (*headings, "CPU µs/ chunk", "TTFT ms", "TTFT p95"):
        view.add_column(heading, justify="right")
    for name, costs in results.items():
        for cost in costs:
            values = asdict(cost).values()
            view.add_row(name, *(f"{v:.1f}" if isinstance(v, float) else str(v) for v in values))
        view.add_section()
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--chunks", type=int, default=64, help="words in a reply")
    parser.add_argument("--seconds", type=float, default=5.0, help="per level of concurrency")
    parser.add_argument("--gateway-cmd", default=GATEWAY_COMMAND, help="{port}, {engine}: filled")
    options = parser.parse_args()
    try:
        results = uvloop.run(run(options.gateway_cmd, options.chunks, options.seconds))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"relay: {error}")
    if options.json:
        servers = {name: [asdict(cost) for cost in costs] for name, costs in results.items()}
        print(json.dumps({"chunks": options.chunks, "servers": servers}))
    else:
        Console().print(table(results, options.chunks))


if __name__ == "__main__":
    main()
