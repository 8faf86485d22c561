"""What the guard decides, as a client sees it: the same streamed or not, whole or in pieces."""

import itertools
import random
from typing import Any

import httpx
import orjson
import pytest

from guard.guard import Guard
from guard.policy import Action, Policy, Rule
from guard.types import Axis, GuardBroken, GuardTimeout, Stage
from server.sse import DONE, encode
from tests.fakes.chat import BAD_STORY, STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedScorer, scripted_guard
from tests.fakes.script import Script, byte_by_byte, tool_call
from tests.fakes.scripted_engine import ScriptedEngine


async def test_a_harmful_prompt_is_blocked_and_the_engine_let_go(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words(STORY, delay=0.05)
    text, reason, guard = folded(await stream(client, ask("How do I build a bomb?")))
    assert reason == "content_filter"
    assert text == Policy().refusal(Stage.PROMPT)
    assert guard["flags"] == ["refusal", "unsafe_prompt"]
    assert guard["shown_before_block"] == 0
    assert guard["helpfulness"] is None
    await engine.idle()
    assert gateway.outcomes() == {"blocked_prompt": 1}


async def test_a_harmful_reply_is_stopped_at_the_last_safe_checkpoint(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words(BAD_STORY, delay=0.001)
    text, reason, guard = folded(await stream(client, ask()))
    shown = text.removesuffix(Policy().refusal(Stage.RESPONSE)).rstrip()
    assert reason == "content_filter"
    assert guard["flags"] == ["refusal", "unsafe_response"]
    assert BAD_STORY.startswith(shown)
    assert len(shown) == guard["shown_before_block"] > 0
    assert "bomb" not in shown
    await engine.idle()
    assert gateway.outcomes() == {"blocked_response": 1}


async def test_any_chunking_speed_and_mode_give_the_same_verdict_at_the_same_character(
    engine: ScriptedEngine,
) -> None:
    chance = random.Random(7)
    scorer = ScriptedScorer(delay=lambda: chance.choice([0, 0, 0.002, 0.02]))
    async with (
        run_gateway(
            quick_settings(), engine_url=engine.url, guard=scripted_guard(scorer)
        ) as gateway,
        client_for(gateway) as client,
    ):
        results = set()
        for text in (BAD_STORY, STORY):
            cut = [chance.randrange(1, 9) for _ in range(len(text))]
            edges = [0, *(sum(cut[: i + 1]) for i in range(len(cut)))]
            pieces = [text[a:b] for a, b in itertools.pairwise(edges) if text[a:b]]
            for script in (
                Script.words(text),
                Script(deltas=(pieces,)),
                Script(deltas=(tuple(text),), split=byte_by_byte),
                Script(deltas=((text,),)),
            ):
                engine.script = script
                results.add(_essence(*folded(await stream(client, ask()))))
                whole = (await client.post("/v1/chat/completions", json=ask())).json()
                choice = whole["choices"][0]
                content = choice["message"]["content"]
                results.add(_essence(content, choice["finish_reason"], choice["guard"]))
        assert len(results) == 2


def _essence(text: str, reason: str, guard: dict[str, Any]) -> tuple[object, ...]:
    return text, reason, guard["safety"], guard["shown_before_block"], str(guard["flags"])


async def test_nothing_is_shown_before_its_verdict(engine: ScriptedEngine) -> None:
    scorer = ScriptedScorer(trouble=GuardTimeout, troubled=lambda s: len(s.reply or "") > 60)
    async with (
        run_gateway(
            quick_settings(), engine_url=engine.url, guard=scripted_guard(scorer)
        ) as gateway,
        client_for(gateway) as client,
    ):
        events = await stream(client, ask())
        assert events[-1]["error"]["type"] == "guard_error"
        text = "".join(e["choices"][0]["delta"]["content"] for e in events[:-1])
        covered = max(len(s.reply or "") for a, s in scorer.asked if len(s.reply or "") <= 60)
        assert len(text) == covered
        assert gateway.outcomes() == {"guard_failed": 1}


@pytest.mark.parametrize("trouble", [GuardTimeout, GuardBroken])
async def test_a_guard_that_fails_on_the_prompt_is_a_503(
    engine: ScriptedEngine, trouble: type[Exception]
) -> None:
    async with (
        run_gateway(
            quick_settings(),
            engine_url=engine.url,
            guard=scripted_guard(ScriptedScorer(trouble=trouble)),
        ) as gateway,
        client_for(gateway) as client,
    ):
        response = await client.post("/v1/chat/completions", json=ask(stream=True))
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "guard_error"
        assert response.headers["retry-after"]
        await engine.idle()
        assert gateway.outcomes() == {"guard_failed": 1}


async def test_an_operator_may_fail_open_and_the_turn_is_flagged(engine: ScriptedEngine) -> None:
    guard = scripted_guard(ScriptedScorer(trouble=GuardTimeout), fail_open=True)
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        text, reason, report = folded(await stream(client, ask()))
        assert (text, reason) == (STORY, "stop")
        assert report["flags"] == ["unjudged"]
        assert report["safety"] is None
        assert gateway.sample("safechat_flags_total", flag="unjudged") == 1


async def test_a_monitoring_policy_flags_and_shows(engine: ScriptedEngine) -> None:
    rule = Rule(Action.MONITOR)
    guard = scripted_guard(policy=Policy(prompt=rule, response=rule))
    engine.script = Script.words(BAD_STORY)
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        text, reason, report = folded(await stream(client, ask("a bomb?")))
        assert (text, reason) == (BAD_STORY, "stop")
        assert report["flags"] == ["unsafe_prompt", "unsafe_response"]


async def test_each_choice_is_guarded_by_itself(
    engine: ScriptedEngine, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words(STORY, BAD_STORY)
    events = await stream(client, ask(n=2))
    good, bad = folded(events, 0), folded(events, 1)
    assert good[:2] == (STORY, "stop")
    assert bad[1] == "content_filter"
    whole = (await client.post("/v1/chat/completions", json=ask(n=2))).json()
    assert [c["message"]["content"] for c in whole["choices"]] == [good[0], bad[0]]
    assert gateway.outcomes() == {"blocked_response": 2}


async def test_tool_call_arguments_are_judged_as_text(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]

    def calling(words: list[str]) -> Script:
        deltas = [tool_call(0, "search"), *(tool_call(0, arguments=w) for w in words)]
        return Script(deltas=(deltas,), finish_reason="tool_calls")

    engine.script = calling(['{"query":', ' "boats', ' and cats"}'])
    reply = (await client.post("/v1/chat/completions", json=ask(tools=tools))).json()
    [choice] = reply["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    function = {"name": "search", "arguments": '{"query": "boats and cats"}'}
    assert call["function"] == function
    assert call["type"] == "function"

    engine.script = calling(['{"query":', ' "how to build', ' a bomb"}'])
    events = await stream(client, ask(tools=tools))
    shown = orjson.dumps([e["choices"] for e in events]).decode()
    assert folded(events)[1] == "content_filter"
    assert "bomb" not in shown.replace("unsafe", "")


async def test_log_probabilities_are_held_with_their_text(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.script = Script.words(BAD_STORY)
    events = await stream(client, ask(logprobs=True))
    choices = [c for e in events for c in e["choices"]]
    entries = [t for c in choices if c["logprobs"] for t in c["logprobs"]["content"]]
    shown = folded(events)[2]["shown_before_block"]
    assert "".join(t["token"] for t in entries) == BAD_STORY[:shown]


async def test_log_probabilities_of_text_that_the_engine_still_holds_are_dropped(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    secret = {"token": "secret", "logprob": -1.0, "bytes": None, "top_logprobs": []}
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": [
            {"index": 0, "delta": {"content": ""}, "logprobs": {"content": [secret]}},
            {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"},
        ],
    }
    engine.script = Script(deltas=(("Hello there",),), tail=encode(orjson.dumps(chunk)) + DONE)
    events = await stream(client, ask(logprobs=True))
    assert "Hello there" in str(events)
    assert "secret" not in str(events)


async def test_a_scorer_that_fails_in_an_unknown_way_ends_the_stream(
    engine: ScriptedEngine,
) -> None:
    scorer = ScriptedScorer(trouble=RuntimeError, troubled=lambda s: s.reply is not None)
    async with (
        run_gateway(
            quick_settings(), engine_url=engine.url, guard=scripted_guard(scorer)
        ) as gateway,
        client_for(gateway) as client,
    ):
        response = await client.post("/v1/chat/completions", json=ask())
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "internal_error"
        assert gateway.parts.limits.in_flight == 0


async def test_the_whole_reply_is_rated_for_helpfulness_once(engine: ScriptedEngine) -> None:
    scorer = ScriptedScorer()
    guard: Guard = scripted_guard(scorer)
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        await stream(client, ask())
    [rated] = [s for axis, s in scorer.asked if axis is Axis.HELPFULNESS]
    assert rated.reply == STORY
    assert rated.whole
