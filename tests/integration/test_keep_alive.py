"""A connection that a client, or a load balancer, keeps for its next request stays open.

One that closes after a few idle seconds is a trap: a request that leaves in that very instant
meets a reset, and nobody can tell whether it was served.
"""

import asyncio
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from server.settings import Settings
from tests.fakes.scripted_engine import ScriptedEngine
from tests.served_gateway import gateway_before

LIBRARY_DEFAULT_S = 5  # after which uvicorn closes, if nobody tells it otherwise
LOAD_BALANCER_S = 60  # idle time of a cloud's load balancer and of nginx, by default


async def _healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if b"content-length" in line
    )
    await reader.readexactly(length)
    return head.split(b"\r\n", 1)[0]


async def test_an_idle_connection_answers_again(tmp_path: Path) -> None:
    async with (
        ScriptedEngine() as engine,
        gateway_before(engine.url, tmp_path, drain_s=1) as served,
    ):
        at = urlsplit(served.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        assert b"200" in await _healthy(reader, writer)
        await asyncio.sleep(LIBRARY_DEFAULT_S + 1)
        assert b"200" in await _healthy(reader, writer)
        assert Settings().server.keep_alive_s > LOAD_BALANCER_S

        begun = monotonic()
        served.process.terminate()
        await asyncio.to_thread(served.process.wait, 20)
        assert monotonic() - begun < LOAD_BALANCER_S / 4, "nobody waits for who is idle"
        writer.close()
