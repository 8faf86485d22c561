"""A judge in trouble, as a client sees it: the failure policy holds, the gateway stays up."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from guard.guard import Guard
from guard.reward.batcher import Batcher
from guard.reward.breaker import Breaker, State
from guard.reward.remote import RemoteScorer
from guard.reward.router import Router
from guard.reward.spec import load_spec
from guard.types import Axis, GuardTimeout, Sample, Score, Stage
from tests.fakes.chat import BAD_STORY, STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedScorer, WordRewardModel
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.scripted_judge import ScriptedJudge

MODELS = {axis: f"test-{axis}@1" for axis in Axis}
OPEN_S = 0.3
CLOSED = {f"test-{axis}": State.CLOSED for axis in Axis}


@asynccontextmanager
async def guarded(
    engine: ScriptedEngine, guard: Guard
) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        yield gateway, client


def breaker_around(scorer: ScriptedScorer, open_s: float = 60.0) -> Breaker:
    return Breaker(scorer, name="test", failures=3, open_s=open_s)


async def test_closed_policy_an_open_circuit_answers_at_once_and_heals(
    engine: ScriptedEngine,
) -> None:
    scorer = ScriptedScorer(trouble=GuardTimeout, delay=lambda: 0.1)
    breaker = breaker_around(scorer, OPEN_S)
    async with guarded(engine, Guard(breaker, models=MODELS)) as (gateway, client):
        for _ in range(3):
            response = await client.post("/v1/chat/completions", json=ask())
            assert response.json()["error"]["code"] == "GuardTimeout"
        assert breaker.states == CLOSED | {"test-safety": State.OPEN}
        asked = len(scorer.asked)
        response = await client.post("/v1/chat/completions", json=ask())
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "guard_error"
        assert response.json()["error"]["code"] == "GuardUnavailable"
        assert len(scorer.asked) == asked
        scorer.trouble = None
        await asyncio.sleep(OPEN_S)
        reply = await client.post("/v1/chat/completions", json=ask())
        assert reply.json()["choices"][0]["message"]["content"] == STORY
        assert breaker.states == CLOSED
        assert gateway.outcomes() == {"guard_failed": 4, "completed": 1}


async def test_closed_policy_a_circuit_that_opens_in_a_stream_ends_it_in_a_typed_event(
    engine: ScriptedEngine,
) -> None:
    scorer = ScriptedScorer(trouble=GuardTimeout, troubled=lambda s: len(s.reply or "") > 60)
    async with guarded(engine, Guard(breaker_around(scorer), models=MODELS)) as (gateway, client):
        events = await stream(client, ask())
        assert events[-1]["error"]["type"] == "guard_error"
        shown = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
        assert STORY.startswith(shown)
        assert len(shown) <= 60
        assert gateway.outcomes() == {"guard_failed": 1}


async def test_open_policy_an_open_circuit_lets_turns_through_flagged_without_waiting(
    engine: ScriptedEngine,
) -> None:
    scorer = ScriptedScorer(trouble=GuardTimeout)
    breaker = breaker_around(scorer)
    guard = Guard(breaker, models=MODELS, fail_open=True)
    async with guarded(engine, guard) as (gateway, client):
        for _ in range(3):
            text, reason, report = folded(await stream(client, ask()))
            assert (text, reason) == (STORY, "stop")
            assert "unjudged" in report["flags"]
        assert set(breaker.states.values()) == {State.OPEN}
        asked = len(scorer.asked)
        scorer.delay = lambda: 60.0  # whoever asks now waits
        text, _, report = folded(await stream(client, ask()))
        assert text == STORY
        assert "unjudged" in report["flags"]
        assert len(scorer.asked) == asked
        assert gateway.outcomes() == {"completed": 4}
        assert gateway.sample("safechat_flags_total", flag="unjudged") == 4


class Crashing(WordRewardModel):
    """Brings its thread down, as a crash in native code would, for as long as it is ill."""

    ill = True

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        if self.ill:
            raise SystemExit("crashed")
        return super().score(samples)


async def test_a_model_that_crashes_its_worker_fails_turns_and_not_the_gateway(
    engine: ScriptedEngine,
) -> None:
    safety = Crashing()
    models = {Axis.SAFETY: safety, Axis.HELPFULNESS: WordRewardModel(Axis.HELPFULNESS)}
    async with (
        Batcher(models) as batcher,
        guarded(engine, Guard(batcher, models=MODELS)) as (gateway, client),
    ):
        response = await client.post("/v1/chat/completions", json=ask())
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "GuardBroken"
        safety.ill = False
        text, reason, _ = folded(await stream(client, ask()))
        assert (text, reason) == (STORY, "stop")
        assert gateway.outcomes() == {"guard_failed": 1, "completed": 1}


@pytest.mark.parametrize("fail_open", [False, True])
async def test_safety_on_a_server_and_helpfulness_here_and_the_server_dies(
    engine: ScriptedEngine, fail_open: bool
) -> None:
    here = ScriptedScorer()
    judge = ScriptedJudge()
    spec = load_spec("llama-guard-3-8b").model_copy(
        update={"logits": load_spec("beaver-7b-v1.0-cost").logits}
    )
    async with judge, RemoteScorer(judge.url, spec) as remote:
        there = Breaker(remote, name="vllm", failures=3, open_s=60)
        router = Router(here, {(Axis.SAFETY, stage): there for stage in Stage})
        guard = Guard(router, models=MODELS, fail_open=fail_open)
        async with guarded(engine, guard) as (gateway, client):
            engine.script = Script.words(BAD_STORY)
            _, reason, _ = folded(await stream(client, ask()))
            assert reason == "content_filter"
            engine.script = Script.words(STORY)
            assert folded(await stream(client, ask()))[1] == "stop"
            assert {axis for axis, _ in here.asked} == {Axis.HELPFULNESS}
            await judge.__aexit__(None, None, None)
            for _ in range(4):
                response = await client.post("/v1/chat/completions", json=ask())
                assert response.status_code == (200 if fail_open else 503)
            assert there.states["vllm-safety"] is State.OPEN
            failed = {} if fail_open else {"guard_failed": 4}
            done = {"completed": 5 if fail_open else 1, "blocked_response": 1}
            assert gateway.outcomes() == failed | done
