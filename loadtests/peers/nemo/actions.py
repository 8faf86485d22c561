"""NeMo's rails ask our `/v1/score`. Runs in NeMo's environment, not in ours."""

import os

import aiohttp
from nemoguardrails.actions import action
from nemoguardrails.actions.rail_outcome import RailOutcome


@action(name="score_prompt")
async def score_prompt(context: dict[str, str], **services: object) -> RailOutcome:
    return await _outcome([{"role": "user", "content": context["user_message"]}])


@action(name="score_reply")
async def score_reply(context: dict[str, str], **services: object) -> RailOutcome:
    asked = context.get("user_message") or "?"
    reply = {"role": "assistant", "content": context["bot_message"]}
    return await _outcome([{"role": "user", "content": asked}, reply])


async def _outcome(messages: list[dict[str, str]]) -> RailOutcome:
    question = {"input": {"messages": messages}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{os.environ['SCORE_URL']}/v1/score", json=question) as answer,
    ):
        answer.raise_for_status()
        [judged] = (await answer.json())["data"]
    return RailOutcome.allow() if judged["verdict"] == "allow" else RailOutcome.block()
