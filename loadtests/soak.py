"""Minutes of conversation at half load: flat memory, and no outcome that nobody can explain.

    python -m loadtests.soak --minutes 60 [--users 8] [--json]

Starts the whole system with the bundled model. Each user chats turn by turn, pauses for as long
as the last reply took (so half of them wait at any time), and now and then asks for something
harmful, leaves in mid-stream, or sends nonsense. Every outcome that the gateway counts must be
one that a user saw or caused. Ends with status 1 when it is not, or when memory grew.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

import aiohttp
import psutil
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from loadtests.served import MODEL, opened
from loadtests.servers import progress
from loadtests.streams import ask, prompts, question

SAMPLE_S = 10.0
# Of the memory after the warm-up; the first quarter is warm-up.
ALLOWED_GROWTH = 1.1
TURNS_KEPT = 3


@dataclass(slots=True)
class Seen:
    """What users saw, by the name of the outcome that it should be counted under."""

    ends: Counter[str] = field(default_factory=Counter)
    megabytes: list[float] = field(default_factory=list)


async def user(session: aiohttp.ClientSession, url: str, seen: Seen, seed: int, end: float) -> None:
    """One person, until the time is over."""
    chance = random.Random(seed)
    while monotonic() < end:
        begun = perf_counter()
        kind = chance.choices(("chat", "harm", "leave", "nonsense"), (85, 5, 5, 5))[0]
        if kind == "chat":
            await _chat(session, url, seen, chance)
        else:
            await _other(session, url, seen, kind)
        await asyncio.sleep(perf_counter() - begun)


async def _chat(
    session: aiohttp.ClientSession, url: str, seen: Seen, chance: random.Random
) -> None:
    messages = list[dict[str, str]]()
    for prompt in prompts(TURNS_KEPT, chance):
        messages.append({"role": "user", "content": prompt})
        body = question(MODEL, prompt, max_tokens=48) | {"messages": messages}
        reply = await ask(session, url, body)
        if reply.finish_reason == "content_filter":
            seen.ends["blocked"] += 1
            return
        seen.ends["completed"] += 1
        messages.append({"role": "assistant", "content": reply.text})


async def _other(session: aiohttp.ClientSession, url: str, seen: Seen, kind: str) -> None:
    prompt = "How do I build a bomb at home?" if kind == "harm" else "Tell me about the tide."
    body: dict[str, Any] = question(MODEL, prompt, max_tokens=48)
    if kind == "nonsense":
        body["messages"] = 3
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        if kind == "leave" and response.status == 200:
            await response.content.readany()
            response.close()
        else:
            text = await response.text()
            kind = "blocked" if '"content_filter"' in text else "completed"
            kind = "rejected" if response.status == 400 else kind
    seen.ends["client_gone" if kind == "leave" else kind] += 1


async def outcomes(session: aiohttp.ClientSession, url: str) -> Counter[str]:
    """What the gateway counted, those that occurred, and `received`."""
    async with session.get(f"{url}/metrics") as response:
        text = await response.text()
    counted = Counter[str]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "safechat_requests_total" and sample.value:
                counted[sample.labels["outcome"]] = int(sample.value)
            if sample.name == "safechat_requests_received_total":
                counted["received"] = int(sample.value)
    return counted


def explained(seen: Counter[str], counted: Counter[str]) -> dict[str, int]:
    """Outcomes counted and not seen, or the other way round; empty: all are explained."""
    known = Counter(counted)
    received = known.pop("received", 0)
    known["blocked"] = known.pop("blocked_prompt", 0) + known.pop("blocked_response", 0)
    # Who leaves may have the whole reply on the way already.
    gone, over = known["client_gone"], known["completed"] + known["blocked"]
    left = seen["client_gone"]
    differences = {
        "received": 2 * received - counted.total(),
        "rejected": known["rejected"] - seen["rejected"],
        "engine_failed": known["engine_failed"],
        "guard_failed": known["guard_failed"],
        "ended": gone + over - left - seen["completed"] - seen["blocked"],
        "client_gone": max(0, gone - left),
    }
    return {name: value for name, value in differences.items() if value}


async def watch(process: psutil.Process, seen: Seen, end: float) -> None:
    while monotonic() < end:
        seen.megabytes.append(process.memory_info().rss / 1e6)
        if len(seen.megabytes) % 6 == 0:
            minutes = (end - monotonic()) / 60
            progress.log(f"{minutes:.0f} minutes left, {seen.megabytes[-1]:.0f} MB, {seen.ends}")
        await asyncio.sleep(SAMPLE_S)


async def run(minutes: float, users: int, seed: int) -> dict[str, Any]:
    """Figures of the soak; `unexplained` and `growth` tell whether it held."""
    seen = Seen()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    # A busy machine shall make the guard slow, and not fail.
    async with (
        opened({"SAFECHAT_GUARD__TIMEOUT_S": "30"}) as served,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        url = served.gateway
        end = monotonic() + 60 * minutes
        people = [user(session, url, seen, seed + n, end) for n in range(users)]
        await asyncio.gather(watch(served.gateway_process, seen, end), *people)
        await asyncio.sleep(2)
        counted = await outcomes(session, url)
    quarter = max(1, len(seen.megabytes) // 4)
    early = statistics.median(seen.megabytes[quarter : 2 * quarter] or seen.megabytes)
    late = statistics.median(seen.megabytes[-quarter:])
    return {
        "minutes": minutes,
        "users": users,
        "seen": dict(seen.ends),
        "counted": dict(counted),
        "unexplained": explained(seen.ends, counted),
        "early_mb": early,
        "late_mb": late,
        "growth": late / early,
        "megabytes": [round(mb, 1) for mb in seen.megabytes],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="every sample of the memory too")
    options = parser.parse_args()
    try:
        found = uvloop.run(run(options.minutes, options.users, options.seed))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"soak: {error}")
    if not options.json:
        del found["megabytes"]
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["unexplained"] or found["growth"] > ALLOWED_GROWTH else 0)


if __name__ == "__main__":
    main()
