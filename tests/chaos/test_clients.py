"""Clients that vanish, or read a byte now and then: nobody else notices, and nothing is left."""

import asyncio
import random
import socket
from pathlib import Path

import orjson
import pytest

from tests.chaos.house import LEFT, House, ways
from tests.chaos.seeds import SEEDS
from tests.fakes.chat import STORY, ask
from tests.fakes.scorer import ScriptedScorer
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

STREAMS = 24
SLOW = 4
# More than is held between a gateway and a client that does not read.
LONG = [["the tide comes in and the tide goes out. " * 25] * 400]


@pytest.mark.parametrize("seed", SEEDS)
async def test_clients_that_vanish_at_any_moment_leave_nothing_behind(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    scorer = ScriptedScorer(delay=lambda: chance.uniform(0, 0.02))
    async with (
        ScriptedEngine(Script.words(STORY, delay=0.004)) as engine,
        House.open(engine.url, scorer, tmp_path) as house,
    ):
        moments = [chance.uniform(0, 1) for _ in range(STREAMS)]
        ended = ways(await house.crowd(STREAMS, leave_after=moments))
        # One that left before its request did was never there.
        house.expect(-(STREAMS - await _arrived(house)), 0)
        outcomes = await house.settled()
        await engine.idle()
        assert engine.running == 0
    assert set(ended) <= {LEFT, "stop"}
    assert ended["stop"] <= outcomes["completed"]
    assert set(outcomes) <= {"completed", "client_gone"}


async def _arrived(house: House) -> int:
    await asyncio.sleep(0.1)
    return int(house.gateway.sample("safechat_requests_received_total"))


async def test_clients_that_hardly_read_hold_up_nobody(tmp_path: Path) -> None:
    async with (
        ScriptedEngine(Script.words(STORY)) as engine,
        House.open(engine.url, ScriptedScorer(), tmp_path, send_buffer=1) as house,
    ):
        engine.enqueue(*[Script(deltas=LONG)] * SLOW)
        house.expect(SLOW, SLOW)
        port = int(house.gateway.url.rsplit(":", 1)[1])
        readers = [await asyncio.to_thread(_SlowReader, port) for _ in range(SLOW)]
        try:
            for _ in range(4):
                assert ways(await house.crowd(STREAMS // 4)) == {"stop": STREAMS // 4}
                for reader in readers:
                    await asyncio.to_thread(reader.read_byte)
            assert house.gateway.parts.limits.in_flight == SLOW
        finally:
            for reader in readers:
                reader.close()
        outcomes = await house.settled()
        await engine.idle()
    assert outcomes == {"completed": STREAMS, "client_gone": SLOW}


class _SlowReader:
    """Asks for a stream, and takes from it what it is told to, with the smallest buffer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._socket.connect(("127.0.0.1", port))
        body = orjson.dumps(ask(stream=True))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)
        assert self._socket.recv(8) == b"HTTP/1.1"

    def read_byte(self) -> None:
        assert len(self._socket.recv(1)) == 1

    def close(self) -> None:
        self._socket.close()
