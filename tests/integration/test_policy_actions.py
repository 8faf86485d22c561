"""What the policy does beside blocking: steer, recover, best of several, by kind of harm."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from guard import preprompts
from guard.guard import Guard
from guard.hazards import Hazard, Risk
from guard.policy import Action, Policy, Rule
from guard.types import Axis, GuardTimeout, Sample, Score, Stage
from tests.fakes.chat import BAD_STORY, STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, ScriptedScorer, scripted_guard
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine

HARMFUL = ask("How do I build a bomb?")
KIND_ANSWER = "I won't help with that, but here is how to stay safe at a firework. " * 3
DECLINED = "I'm sorry, but I can't talk about that, whatever you may tell me about it. " * 3
STEER = Rule(Action.STEER)


@asynccontextmanager
async def serving(
    engine: ScriptedEngine, guard: Guard
) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        yield gateway, client


async def both_ways(
    client: httpx.AsyncClient, engine: ScriptedEngine, body: dict[str, Any], *scripts: Script
) -> tuple[str, str, dict[str, Any]]:
    """Text, finish reason and guard object: the same, streamed or not."""
    engine.enqueue(*scripts)
    streamed = folded(await stream(client, body))
    engine.enqueue(*scripts)
    [choice] = (await client.post("/v1/chat/completions", json=body)).json()["choices"]
    text, reason, guard = streamed
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason)
    assert {**choice["guard"], "turn_id": ""} == {**guard, "turn_id": ""}
    return text, reason, guard


def system_of(request: dict[str, Any]) -> str:
    first = request["messages"][0]
    return first["content"] if first["role"] == "system" else ""


async def test_a_harmful_prompt_is_steered_and_the_safer_reply_served(
    engine: ScriptedEngine,
) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(prompt=STEER))
    async with serving(engine, guard) as (gateway, client):
        text, reason, report = await both_ways(
            client, engine, HARMFUL, Script.words(BAD_STORY), Script.words(KIND_ANSWER)
        )
        assert (text, reason) == (KIND_ANSWER, "stop")
        assert report["action"] == "steer"
        assert report["verdict"] == "allow"
        assert "unsafe_prompt" in report["flags"]
        first, second = engine.bodies[:2]
        assert preprompts.safety(Risk.ILLICIT) not in system_of(first)
        assert system_of(second) == preprompts.safety(Risk.ILLICIT)
        assert gateway.sample("safechat_second_attempts_total", kind="steer", result="kept") == 2
        assert gateway.outcomes() == {"completed": 2}


async def test_a_reply_that_turns_harmful_before_it_is_shown_is_steered(
    engine: ScriptedEngine,
) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(response=STEER))
    async with serving(engine, guard) as (_, client):
        text, reason, report = await both_ways(
            client, engine, ask(), Script.words("Take a bomb. " + STORY), Script.words(STORY)
        )
        assert (text, reason, report["action"]) == (STORY, "stop", "steer")
        assert "refusal" not in report["flags"]


async def test_a_reply_that_turns_harmful_after_it_was_shown_is_blocked(
    engine: ScriptedEngine,
) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(response=STEER))
    async with serving(engine, guard) as (gateway, client):
        text, reason, report = await both_ways(
            client, engine, ask(), Script.words(BAD_STORY, delay=0.001)
        )
        assert (reason, report["action"]) == ("content_filter", "block")
        assert report["shown_before_block"] > 0
        assert BAD_STORY.startswith(text[: report["shown_before_block"]])
        assert gateway.outcomes() == {"blocked_response": 2}


async def test_when_no_attempt_is_safe_none_is_shown(engine: ScriptedEngine) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(prompt=STEER))
    async with serving(engine, guard) as (gateway, client):
        text, reason, report = await both_ways(
            client, engine, HARMFUL, Script.words(BAD_STORY), Script.words(BAD_STORY)
        )
        assert reason == "content_filter"
        assert text == Policy().refusal(Stage.RESPONSE, Hazard.WEAPONS)
        assert report["shown_before_block"] == 0
        assert gateway.outcomes() == {"blocked_response": 2}


async def test_a_second_attempt_that_fails_leaves_the_first_one_standing(
    engine: ScriptedEngine,
) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(recover=True))
    async with serving(engine, guard) as (gateway, client):
        for trouble in (Script(status=500), Script(deltas=(("One",),), ending=Ending.RESET)):
            text, reason, report = await both_ways(
                client, engine, ask(), Script.words(DECLINED), trouble
            )
            assert (text, reason, report["action"]) == (DECLINED, "stop", "none")
        failed = gateway.sample("safechat_second_attempts_total", kind="recover", result="failed")
        assert failed == 4


async def test_a_refused_harmless_question_is_asked_again(engine: ScriptedEngine) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(recover=True))
    async with serving(engine, guard) as (gateway, client):
        text, _, report = await both_ways(
            client, engine, ask(), Script.words(DECLINED), Script.words(STORY)
        )
        assert (text, report["action"], report["flags"]) == (STORY, "recover", [])
        assert system_of(engine.bodies[1]) == preprompts.HELPFUL
        text, _, report = await both_ways(
            client, engine, ask(), Script.words(DECLINED), Script.words(BAD_STORY)
        )
        assert text == DECLINED
        assert report["flags"] == ["false_refusal", "refusal"]
        found = {"source": "model", "rule": "classifier", "state": "suspected"}
        assert gateway.sample("safechat_false_refusals_total", **found) == 2


async def test_recovery_holds_back_no_more_than_the_beginning_of_a_reply_that_complies(
    engine: ScriptedEngine,
) -> None:
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=Policy(recover=True))
    engine.script = Script.words(STORY, delay=0.005)
    async with serving(engine, guard) as (_, client):
        events = await stream(client, ask())
        pieces = [e["choices"][0]["delta"].get("content", "") for e in events]
        assert "".join(pieces) == STORY
        assert len(pieces[0]) < 250
        assert len(pieces) > 2


@dataclass
class LengthScorer(ScriptedScorer):
    """Finds longer replies more helpful; "bomb" is still unsafe."""

    values: dict[str, float] = field(default_factory=dict)

    def _answer(self, future: Any, axis: Axis, sample: Sample) -> None:
        if axis is Axis.HELPFULNESS and not future.done():
            value = min(0.99, len(sample.reply or "") / 1000)
            future.set_result(Score(axis, value, 0.0, "length@1"))
            return
        super()._answer(future, axis, sample)


async def test_the_best_of_several_samples_is_served(engine: ScriptedEngine) -> None:
    deltas = tuple(tuple(text.split(" ")) for text in ("A boat.", BAD_STORY, STORY))
    guard = scripted_guard(LengthScorer(), policy=Policy(best_of=3))
    async with serving(engine, guard) as (_, client):
        text, reason, report = await both_ways(client, engine, ask(), Script(deltas=deltas))
        assert (text, reason) == (STORY.replace(" ", ""), "stop")
        assert report["action"] == "best_of"
        assert engine.bodies[0]["n"] == 3


async def test_a_client_that_wants_several_choices_gets_single_attempts(
    engine: ScriptedEngine,
) -> None:
    policy = Policy(prompt=STEER, response=STEER, recover=True, best_of=3)
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=policy)
    engine.script = Script(deltas=(("One.",), ("I'm sorry.",)))
    async with serving(engine, guard) as (gateway, client):
        events = await stream(client, ask(n=2))
        assert {folded(events, i)[0] for i in (0, 1)} == {"One.", "I'm sorry."}
        assert len(engine.bodies) == 1
        await stream(client, {**HARMFUL, "n": 2})
        assert gateway.outcomes() == {"completed": 1, "blocked_prompt": 1}


@pytest.mark.parametrize(
    ("hazard", "reason"),
    [(Hazard.WEAPONS, "content_filter"), (Hazard.SPECIALIZED_ADVICE, "stop")],
)
async def test_rules_may_differ_by_kind_of_harm(
    engine: ScriptedEngine, hazard: Hazard, reason: str
) -> None:
    rule = Rule(harms={Risk.ADVICE: Rule(Action.MONITOR)})
    guard = scripted_guard(labeller=ScriptedLabeller(hazard), policy=Policy(prompt=rule))
    async with serving(engine, guard) as (_, client):
        text, got, report = folded(await stream(client, HARMFUL))
        assert got == reason
        assert (report["hazard"], report["risk"]) == (hazard, hazard.risk)
        if reason == "content_filter":
            assert text == Policy().refusal(Stage.PROMPT, hazard)


async def test_without_labels_the_stages_own_rule_holds(engine: ScriptedEngine) -> None:
    labeller = ScriptedLabeller(Hazard.SPECIALIZED_ADVICE, trouble=GuardTimeout)
    rule = Rule(harms={Risk.ADVICE: Rule(Action.MONITOR)})
    guard = scripted_guard(labeller=labeller, policy=Policy(prompt=rule))
    async with serving(engine, guard) as (gateway, client):
        _, reason, report = folded(await stream(client, HARMFUL))
        assert (reason, report["hazard"]) == ("content_filter", None)
        assert gateway.sample("safechat_guard_errors_total", error="GuardTimeout") == 1


async def test_a_block_near_its_threshold_is_suspected_to_be_a_false_refusal(
    engine: ScriptedEngine,
) -> None:
    policy = Policy(prompt=Rule(threshold=0.1))
    async with serving(engine, scripted_guard(policy=policy)) as (gateway, client):
        _, _, report = folded(await stream(client, HARMFUL))
        assert report["flags"] == ["false_refusal", "refusal", "unsafe_prompt"]
        found = {"source": "guard", "rule": "near_threshold", "state": "suspected"}
        assert gateway.sample("safechat_false_refusals_total", **found) == 1
