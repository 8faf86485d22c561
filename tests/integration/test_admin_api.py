"""`/v1/admin` over HTTP: the policy in force, and flagged turns with or without their content."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from flywheel.sqlite.journal import SqliteJournal
from guard.hazards import Hazard
from guard.policy import Action, Policy, Rule
from server.auth import hash_key
from server.settings import ApiKey, Scope
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.turns import SECRET, flagged_record, turn_record

KEYS = (
    ApiKey(id="olga", sha256=hash_key("operates"), scopes=frozenset({Scope.ADMIN})),
    ApiKey(id="both", sha256=hash_key("sees"), scopes=frozenset({Scope.ADMIN, Scope.REVIEW})),
    ApiKey(id="rita", sha256=hash_key("reviews"), scopes=frozenset({Scope.REVIEW, Scope.CHAT})),
)
POLICY = Policy(
    prompt=Rule(Action.STEER, 0.4, {Hazard.MALWARE: Rule(Action.BLOCK, 0.7)}), recover=True
)


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SqliteJournal(tmp_path / "journal.sqlite") as journal:
        await journal.record(turn_record("plain"))
        for number in (1, 2, 3):
            await journal.record(flagged_record(f"flagged-{number}"))
        async with run_gateway(
            quick_settings(keys=KEYS),
            engine_url=engine.url,
            guard=scripted_guard(policy=POLICY),
            journal=journal,
        ) as gateway:
            yield gateway


async def get(gateway: RunningGateway, path: str, key: str) -> httpx.Response:
    async with client_for(gateway, headers={"authorization": f"Bearer {key}"}) as client:
        return await client.get(path)


async def test_the_policy_in_force_is_shown_with_rules_for_single_harms(
    gateway: RunningGateway,
) -> None:
    policy = (await get(gateway, "/v1/admin/policy", "operates")).json()
    assert policy["prompt"] == {
        "action": "steer",
        "threshold": 0.4,
        "harms": {"malware": {"action": "block", "threshold": 0.7, "harms": {}}},
    }
    assert policy["response"]["threshold"] == 0.5
    assert (policy["recover"], policy["on_failure"], policy["ghost"]) == (True, "closed", "once")
    assert policy["models"]["safety"] == "scripted-safety@1"


async def test_flagged_turns_come_newest_first_and_without_a_word_of_them(
    gateway: RunningGateway,
) -> None:
    response = await get(gateway, "/v1/admin/flagged?limit=2", "operates")
    turns = response.json()["data"]
    assert [turn["turn_id"] for turn in turns] == ["flagged-3", "flagged-2"]
    assert turns[0]["flags"] == ["unsafe_response"]
    assert turns[0]["safety"] == 0.97
    assert turns[0]["content"] is None
    assert SECRET not in response.text


async def test_a_key_that_may_review_sees_the_content_too(gateway: RunningGateway) -> None:
    response = await get(gateway, "/v1/admin/flagged", "sees")
    assert SECRET in response.json()["data"][0]["content"]["messages"][0]["text"]


@pytest.mark.parametrize("path", ["/v1/admin/policy", "/v1/admin/flagged"])
async def test_keys_without_the_scope_are_refused(gateway: RunningGateway, path: str) -> None:
    refused = await get(gateway, path, "reviews")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "missing_scope"
    assert (await get(gateway, path, "nobody")).status_code == 401


async def test_a_gateway_without_a_journal_says_so(engine: ScriptedEngine) -> None:
    async with run_gateway(
        quick_settings(), engine_url=engine.url, guard=scripted_guard()
    ) as gateway:
        answer = await get(gateway, "/v1/admin/flagged", "anything")
        assert answer.json()["error"]["code"] == "no_journal"
