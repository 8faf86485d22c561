"""One suite for both stores: a journal on SQLite, and one on a real Redis."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from flywheel.journal import Journal
from flywheel.review.desk import ReviewDesk
from flywheel.review.false_refusals import Finding
from tests.integration.memory.desks import open_desk
from tests.integration.memory.stores import Store
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer
) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        yield Store(request.param, tmp_path, redis, stack)


@pytest.fixture
async def journal(store: Store) -> Journal:
    return await store.open()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One to be killed: what it acknowledged is on its disk."""
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "spool.sqlite"


@pytest.fixture
def found() -> list[Finding]:
    return []


@pytest.fixture
def desk(store: Store, journal: Journal, found: list[Finding]) -> ReviewDesk:
    return open_desk(store, journal, found=found.append)
