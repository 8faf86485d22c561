"""A gateway before a scripted engine, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.fakes.chat import STORY
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(Script.words(STORY)) as engine:
        yield engine


@pytest.fixture
async def gateway(engine: ScriptedEngine) -> AsyncIterator[RunningGateway]:
    async with run_gateway(
        quick_settings(), engine_url=engine.url, guard=scripted_guard()
    ) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models on one thread, here and in children: sums in one order, and no waiting."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
