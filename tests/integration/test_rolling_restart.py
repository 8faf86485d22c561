"""Gateways replaced one after the other under load, as a rolling update does it.

Each step is Kubernetes's: the next one is ready, new connections go to it, and the old one gets
SIGTERM while its streams are still being written.
"""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from openai import AsyncOpenAI

from tests.fakes.balancer import Balancer
from tests.fakes.chat import STORY, ask, folded, stream
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.served_gateway import Served, gateway_before

DRAIN_S = 20
GATEWAYS = 3
CLIENTS = 8


class Crowd:
    """Clients that ask again and again, and insist on whole replies."""

    def __init__(self, url: str) -> None:
        self.replies = 0
        self._url = url
        self._enough = asyncio.Event()

    async def rolling(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._anew() if number % 2 else self._kept())

    def stop(self) -> None:
        self._enough.set()

    async def _anew(self) -> None:
        """A connection for each request."""
        while not self._enough.is_set():
            async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
                text, reason, _ = folded(await stream(client, ask()))
            assert (text, reason) == (STORY, "stop")
            self.replies += 1

    async def _kept(self) -> None:
        """Connections that are used again, by OpenAI's own client."""
        async with AsyncOpenAI(base_url=f"{self._url}/v1", api_key="none") as client:
            while not self._enough.is_set():
                text = ""
                async for chunk in await client.chat.completions.create(
                    model="scripted",
                    messages=[{"role": "user", "content": "Tell me a story."}],
                    stream=True,
                ):
                    text += chunk.choices[0].delta.content or ""
                assert text == STORY
                self.replies += 1


async def test_a_rolling_restart_drops_no_stream(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(ScriptedEngine(Script.words(STORY, delay=0.01)))

        async def another(number: int) -> Served:
            folder = tmp_path / str(number)
            folder.mkdir()
            return await stack.enter_async_context(
                gateway_before(engine.url, folder, drain_s=DRAIN_S)
            )

        serving = await another(0)
        balancer = await stack.enter_async_context(Balancer(serving.url))
        crowd = Crowd(balancer.url)
        rolling = asyncio.create_task(crowd.rolling())
        for number in range(1, GATEWAYS):
            following = await another(number)
            before = crowd.replies
            balancer.endpoint = following.url
            assert engine.running >= CLIENTS // 2
            serving.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(serving.process.wait, DRAIN_S) == -signal.SIGTERM
            async with asyncio.timeout(20):
                while crowd.replies < before + 2 * CLIENTS:
                    await asyncio.sleep(0.05)
            serving = following
        crowd.stop()
        await rolling
        assert crowd.replies >= 2 * CLIENTS * (GATEWAYS - 1)
