"""Limits that hold for all gateways together, and go on by themselves without Redis."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from limits import RateLimitItemPerMinute
from pydantic import SecretStr

from server.counts import Full, Permit
from server.redis_link import RedisLink
from server.settings import LimitSettings
from server.shared_counts import SharedCounts
from tests.fakes.chat import STORY, ask
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.redis_server import RedisServer

CHAT = "/v1/chat/completions"
PATIENCE_S = 10.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def link(redis: RedisServer) -> AsyncIterator[RedisLink]:
    async with RedisLink(SecretStr(redis.url), request_s=2) as link:  # whatever else runs here
        yield link


async def until_redis_is(up: bool, *gateways: RunningGateway) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(g.sample("safechat_redis_up") != up for g in gateways):
            await asyncio.sleep(0.02)


async def until_link_is(up: bool, link: RedisLink) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while link.up is not up:
            await asyncio.sleep(0.02)


async def statuses(*clients: httpx.AsyncClient) -> list[int]:
    return [(await client.post(CHAT, json=ask())).status_code for client in clients]


async def test_two_gateways_share_one_rate(engine: ScriptedEngine, redis: RedisServer) -> None:
    settings = quick_settings(
        limits=LimitSettings(requests_per_minute=3), redis_url=redis.url, redis_timeout_s=2
    )
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as one,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as two,
        client_for(one) as here,
        client_for(two) as there,
    ):
        assert await statuses(here, there, here) == [200, 200, 200]
        refused = await there.post(CHAT, json=ask())
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "requests_limit"
        assert 1 <= int(refused.headers["retry-after"]) <= 61


async def test_tokens_spent_at_one_gateway_count_at_the_other(
    engine: ScriptedEngine, redis: RedisServer
) -> None:
    settings = quick_settings(
        limits=LimitSettings(tokens_per_minute=5), redis_url=redis.url, redis_timeout_s=2
    )
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as one,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as two,
        client_for(one) as here,
        client_for(two) as there,
    ):
        assert await statuses(here) == [200]
        async with asyncio.timeout(PATIENCE_S):
            while (refused := await there.post(CHAT, json=ask())).status_code == 200:
                await asyncio.sleep(0.02)
        assert refused.json()["error"]["code"] == "tokens_limit"


@pytest.mark.parametrize("bound", [{"streams": 1}, {"streams_per_key": 1}])
async def test_two_gateways_share_one_bound_on_streams(
    engine: ScriptedEngine, redis: RedisServer, bound: dict[str, int]
) -> None:
    settings = quick_settings(limits=LimitSettings(**bound), redis_url=redis.url, redis_timeout_s=2)
    engine.enqueue(Script.words(STORY * 20, delay=0.01))
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as one,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as two,
        client_for(one) as here,
        client_for(two) as there,
    ):
        async with here.stream("POST", CHAT, json=ask(stream=True)) as reply:
            parts = reply.aiter_raw()  # dropping it would close the stream
            await anext(parts)
            refused = await there.post(CHAT, json=ask())
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "streams_limit"
        async with asyncio.timeout(PATIENCE_S):
            while await statuses(there) != [200]:
                await asyncio.sleep(0.02)


async def test_without_redis_each_gateway_goes_on_with_its_own_limits(
    engine: ScriptedEngine, redis: RedisServer
) -> None:
    settings = quick_settings(
        limits=LimitSettings(requests_per_minute=4), redis_url=redis.url, redis_timeout_s=2
    )
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as one,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as two,
        client_for(one) as here,
        client_for(two) as there,
    ):
        assert await statuses(here, here, there) == [200, 200, 200]
        redis.kill()
        assert await statuses(there, there, there, there) == [200, 200, 200, 429]
        assert await statuses(here, here, here) == [200, 200, 429]
        assert two.sample("safechat_redis_up") == 0
        assert two.sample("safechat_redis_failures_total") >= 1
        redis.start()
        await until_redis_is(True, one, two)
        assert await statuses(here, there) == [200, 429]


async def test_streams_that_began_without_redis_count_once_it_is_back(
    engine: ScriptedEngine, redis: RedisServer
) -> None:
    settings = quick_settings(
        limits=LimitSettings(streams=1), redis_url=redis.url, redis_timeout_s=2
    )
    engine.enqueue(Script.words(STORY * 100, delay=0.05))
    redis.kill()
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as one,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as two,
        client_for(one) as here,
        client_for(two) as there,
        here.stream("POST", CHAT, json=ask(stream=True)) as reply,
    ):
        parts = reply.aiter_raw()  # dropping it would close the stream
        await anext(parts)
        assert await statuses(there) == [200]
        redis.start()
        await until_redis_is(True, one, two)
        async with asyncio.timeout(PATIENCE_S):
            while await statuses(there) != [429]:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def holder(
    redis: RedisServer, key_id: str, streams: int, lease_s: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway's process that has streams in flight."""
    words = [redis.url, key_id, str(streams), str(lease_s)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.permit_holder", *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"holding\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_crashed_gateways_permits_come_back(redis: RedisServer, link: RedisLink) -> None:
    lease_s = 1.0
    async with holder(redis, "ada", 2, lease_s) as crashing, SharedCounts(link) as counts:
        await asyncio.sleep(2 * lease_s)
        assert await counts.enter(Permit("bea"), 2, None) is Full.ALL, "leases were not renewed"
        assert await counts.enter(Permit("ada"), 9, 2) is Full.KEY
        crashing.kill()
        async with asyncio.timeout(PATIENCE_S):
            while await counts.enter(Permit("bea"), 2, None) is Full.ALL:
                await asyncio.sleep(0.05)
        assert await counts.enter(Permit("ada"), 2, 2) is None


async def test_a_closing_gateway_gives_its_permits_back(link: RedisLink) -> None:
    async with SharedCounts(link) as first:
        assert await first.enter(Permit("ada"), 1, None) is None
    async with SharedCounts(link) as second:
        assert await second.enter(Permit("ada"), 1, None) is None


async def test_a_stream_that_ended_while_redis_was_away_gives_its_place_back(
    redis: RedisServer, link: RedisLink
) -> None:
    async with SharedCounts(link, lease_s=600) as counts, SharedCounts(link) as other:
        held = Permit("ada")
        assert await counts.enter(held, 1, None) is None
        redis.kill()
        counts.leave(held)
        await until_link_is(False, link)
        redis.start()
        await until_link_is(True, link)
        async with asyncio.timeout(PATIENCE_S):
            while await other.enter(Permit("bea"), 1, None) is Full.ALL:
                await asyncio.sleep(0.05)


async def test_a_permit_that_is_refused_takes_nothing(link: RedisLink) -> None:
    async with SharedCounts(link) as one, SharedCounts(link) as other:
        held, refused = Permit("ada"), Permit("ada")
        assert await one.enter(held, 1, None) is None
        assert await other.enter(refused, 1, None) is Full.ALL
        assert other.in_flight == 0
        other.leave(refused)
        assert await other.enter(Permit("ada"), 1, None) is Full.ALL
        one.leave(held)
        async with asyncio.timeout(PATIENCE_S):
            while await other.enter(Permit("ada"), 1, None) is Full.ALL:
                await asyncio.sleep(0.01)


async def test_a_silent_redis_costs_one_short_wait(redis: RedisServer) -> None:
    item = RateLimitItemPerMinute(1000)
    url, wait_s = SecretStr(redis.url), 0.5
    async with RedisLink(url, request_s=wait_s) as link, SharedCounts(link) as counts:
        assert await counts.hit(item, "ada", "requests")
        with redis.silent():
            begun = time.monotonic()
            assert await counts.hit(item, "ada", "requests")
            first_s = time.monotonic() - begun
            for _ in range(20):
                assert await counts.hit(item, "ada", "requests")
                assert await counts.enter(Permit("ada"), 99, 99) is None
            later_s = time.monotonic() - begun - first_s
        assert 0.9 * wait_s < first_s < 3 * wait_s
        assert later_s < wait_s
        async with asyncio.timeout(PATIENCE_S):
            while not link.up or await link.redis.zcard("{safechat}:streams") < counts.in_flight:
                await asyncio.sleep(0.02)
        assert counts.in_flight == 20


async def test_the_url_is_in_no_log_and_no_repr(
    redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis.kill()
    url = redis.url.replace("redis://", "redis://user:hidden@")
    async with RedisLink(SecretStr(url)) as link:
        shown = repr(quick_settings(redis_url=url)) + repr(link)
    said = capsys.readouterr()
    assert "redis_away" in said.out + said.err
    assert "hidden" not in shown + said.out + said.err
