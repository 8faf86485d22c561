"""What chats on the pages cost the API: replies of a direct client, with a crowd beside it.

    python -m loadtests.pages [--json] [--chats 100] [--seconds 30]

One client asks the API again and again, alone; then beside a crowd that asks the API too; then
beside as large a crowd that chats through the pages, which run as a process of their own. An
engine that costs nothing writes 20 words a second. The gateway has a core to itself; everything
else shares another one, the pages at the lowest priority, so that what is measured is the API and
not a client that has to wait for its turn.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.fronted import fronted
from loadtests.relay import complete
from loadtests.servers import free_port, progress, ready, started

WORDS = 64
WORD_MS = 50.0
PROBES = 4
"""Direct requests that are under way at any moment."""
_SETTLE_S = 5.0

Chat = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Of the direct client: replies, and medians in seconds. chats: that the crowd finished."""

    crowd: str
    replies: int
    first_text_s: float
    whole_reply_s: float
    chats: int


class Pages:
    """Chats as a browser has them, over Gradio's own HTTP interface."""

    def __init__(self, session: aiohttp.ClientSession, url: str, config: dict[str, Any]) -> None:
        self._session = session
        self._url = f"{url}/gradio_api/queue"
        ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        wanted = [ids["message"], "submit"]
        self._ask = next(d for d in config["dependencies"] if wanted in map(list, d["targets"]))
        self._trigger = ids["message"]
        values = {c["id"]: c["props"].get("value") for c in config["components"]}
        self._values = [values[field] for field in self._ask["inputs"][1:]]

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, url: str) -> "Pages":
        async with session.get(f"{url}/config") as response:
            return cls(session, url, await response.json())

    async def chat(self) -> None:
        """One question in a conversation of its own, followed to the end of its reply."""
        visitor = uuid4().hex
        asked = {
            "data": ["What do time and tide do?", *self._values],
            "fn_index": self._ask["id"],
            "session_hash": visitor,
            "trigger_id": self._trigger,
            "event_data": None,
        }
        async with self._session.post(f"{self._url}/join", json=asked) as response:
            response.raise_for_status()
        await self._followed(visitor)

    async def _followed(self, visitor: str) -> None:
        seen = b""
        address = f"{self._url}/data?session_hash={visitor}"
        async with self._session.get(address) as response:
            response.raise_for_status()
            async for piece in response.content.iter_any():
                *events, seen = (seen + piece).split(b"\n\n")
                for event in events:
                    if b'"process_completed"' in event:
                        if not json.loads(event.removeprefix(b"data: "))["success"]:
                            raise RuntimeError(f"the page failed: {event[:300]!r}")
                        return
        raise RuntimeError("the page broke the chat off")


async def measured(
    session: aiohttp.ClientSession, url: str, seconds: float, crowd: str, chat: Chat | None, n: int
) -> Speed:
    """The direct client's speed, while n others chat without a pause."""
    progress.log(f"{crowd}: {seconds:g} s")
    stop = asyncio.Event()
    chats = 0

    async def person(after: float) -> None:
        nonlocal chats
        await asyncio.sleep(after)
        while chat is not None and not stop.is_set():
            await chat()
            chats += 1

    people = [asyncio.create_task(person(_SETTLE_S * i / n)) for i in range(n if chat else 0)]
    await asyncio.sleep(_SETTLE_S)
    firsts, wholes = list[float](), list[float]()
    end = time.perf_counter() + seconds

    async def probe() -> None:
        while time.perf_counter() < end:
            begun = time.perf_counter()
            first, _ = await complete(session, url)
            if first is None:
                raise RuntimeError("a direct reply had no text")
            firsts.append(first)
            wholes.append(time.perf_counter() - begun)

    await asyncio.gather(*(probe() for _ in range(PROBES)))
    stop.set()
    await asyncio.gather(*people)
    return Speed(crowd, len(wholes), statistics.median(firsts), statistics.median(wholes), chats)


async def run(chats: int, seconds: float) -> list[Speed]:
    """Alone, beside a crowd on the API, beside a crowd on the pages."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    pages_port = free_port()
    pages_url = f"http://127.0.0.1:{pages_port}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        fronted(
            session,
            f"--chunks {WORDS} --delay-ms {WORD_MS:g}",
            engine_cores=cores[:1],
            gateway_cores=cores[-1:],
            settings={"SAFECHAT_JOURNAL__ENABLED": "false"},
        ) as both,
    ):
        url = both.gateway
        pages_command = f"nice -n 19 {sys.executable} -m ui --api {url} --port {pages_port}"
        with started(pages_command, {}, cores[:1]) as pages_process:
            await ready(session, f"{pages_url}/config", pages_process)
            pages = await Pages.open(session, pages_url)

            async def direct() -> None:
                await complete(session, url)

            return [
                await measured(session, url, seconds, "nobody", None, chats),
                await measured(session, url, seconds, "on the API", direct, chats),
                await measured(session, url, seconds, "on the pages", pages.chat, chats),
            ]


def table(speeds: list[Speed], chats: int) -> Table:
    view = Table(title=f"A direct client, beside {chats} chats", box=box.SIMPLE)
    view.add_column("the others are")
    for heading in ("replies", "first text ms", "whole reply ms", "against nobody", "their chats"):
        view.add_column(heading, justify="right")
    for speed in speeds:
        view.add_row(
            speed.crowd,
            str(speed.replies),
            f"{1e3 * speed.first_text_s:.1f}",
            f"{1e3 * speed.whole_reply_s:.0f}",
            f"{speed.whole_reply_s / speeds[0].whole_reply_s:.3f}",
            str(speed.chats),
        )
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--chats", type=int, default=100, help="chats at once in the crowd")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the three")
    options = parser.parse_args()
    try:
        speeds = uvloop.run(run(options.chats, options.seconds))
    except RuntimeError as error:
        sys.exit(f"pages: {error}")
    if options.json:
        print(json.dumps([asdict(speed) for speed in speeds]))
    else:
        Console().print(table(speeds, options.chats))


if __name__ == "__main__":
    main()
