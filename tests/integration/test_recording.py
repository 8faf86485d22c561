"""What the gateway remembers of a turn, and what users say of it later."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.journal import Counters, Entry, Journal, JournalUnavailable, Keep
from flywheel.records import AttemptKind, Outcome, RefusalSource, TurnAction, TurnRecord
from flywheel.sqlite.journal import SqliteJournal
from guard.policy import Action, Policy, Rule
from guard.types import Flag, RefusalKind
from server.auth import hash_key
from server.settings import ApiKey, JournalSettings, OnJournalFailure, Settings
from tests.fakes.chat import STORY, ask, folded, stream
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

MINE, THEIRS = "sk-mine", "sk-theirs"
HARMFUL = ask("How do I build a bomb?")
NAMED: dict[str, Any] = {"metadata": {"conversation_id": "boats"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return quick_settings(
        journal=JournalSettings(folder=tmp_path, keep=Keep.ALL),
        keys=tuple(
            ApiKey(id=name, sha256=hash_key(key))
            for name, key in (("mine", MINE), ("theirs", THEIRS))
        ),
    )


@pytest.fixture
async def gateway(engine: ScriptedEngine, settings: Settings) -> AsyncIterator[RunningGateway]:
    guard = scripted_guard(labeller=ScriptedLabeller())
    async with run_gateway(settings, engine_url=engine.url, guard=guard) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(gateway, headers={"authorization": f"Bearer {MINE}"}) as client:
        yield client


async def kept(gateway: RunningGateway, turn_id: str) -> Entry:
    journal = gateway.parts.journal
    assert journal is not None
    return await journal.turn(turn_id)


async def test_a_finished_turn_is_in_the_journal_before_its_client_sees_the_end(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    body = ask("Tell me a story.", **NAMED)
    body["messages"].insert(0, {"role": "system", "content": "Rhyme."})
    _, _, report = folded(await stream(client, body))
    record = (await kept(gateway, report["turn_id"])).record
    assert record.outcome is Outcome.COMPLETED
    assert (record.key_id, record.conversation_id) == ("mine", "boats")
    assert record.system == "Rhyme."
    assert record.messages is not None
    assert [(m.role, m.text) for m in record.messages] == [("user", "Tell me a story.")]
    [choice] = record.choices
    assert (choice.reply, choice.finish_reason) == (STORY, "stop")
    assert (choice.safety, choice.refusal) == (report["safety"], RefusalKind.COMPLIANCE)
    assert record.guard_models == ("scripted-safety@1", "scripted-helpfulness@1")
    assert record.engine is not None
    assert record.engine.model == "scripted"
    assert record.streamed
    assert 0 < (record.timings.first_token_s or 0) <= record.timings.seconds


async def test_blocked_rejected_and_departed_turns_are_recorded_too(
    gateway: RunningGateway, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    blocked = await client.post("/v1/chat/completions", json=HARMFUL)
    record = (await kept(gateway, blocked.headers["x-safechat-turn-id"])).record
    assert (record.outcome, record.action) == (Outcome.BLOCKED_PROMPT, TurnAction.BLOCK)
    assert record.refusal_source is RefusalSource.GUARD
    assert record.flags == {Flag.UNSAFE_PROMPT, Flag.REFUSAL}
    rejected = await client.post("/v1/chat/completions", json={"model": "scripted"})
    record = (await kept(gateway, rejected.headers["x-safechat-turn-id"])).record
    assert (record.outcome, record.error) == (Outcome.REJECTED, "invalid_request_error")
    engine.script = Script.words(STORY, delay=0.05)
    streaming = client.stream("POST", "/v1/chat/completions", json=ask(stream=True))
    async with streaming as response:
        turn_id = response.headers["x-safechat-turn-id"]
        await anext(response.aiter_raw())
    while not gateway.outcomes().get("client_gone"):
        await asyncio.sleep(0.01)
    assert (await kept(gateway, turn_id)).record.outcome is Outcome.CLIENT_GONE
    assert gateway.parts.journal is not None
    counted = (await gateway.parts.journal.counters()).outcomes
    assert {o.value: n for o, n in counted.items() if n} == gateway.outcomes()
    assert gateway.sample("safechat_journal_turns_total", result="stored") == 3


async def test_attempts_leave_a_pair(engine: ScriptedEngine, settings: Settings) -> None:
    policy = Policy(prompt=Rule(Action.STEER))
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=policy)
    async with (
        run_gateway(settings, engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway, headers={"authorization": f"Bearer {MINE}"}) as client,
    ):
        engine.enqueue(Script.words("Take a bomb. " + STORY), Script.words("Take care. " + STORY))
        reply = (await client.post("/v1/chat/completions", json=HARMFUL)).json()
        entry = await kept(gateway, reply["choices"][0]["guard"]["turn_id"])
        first, second = entry.record.attempts
        assert (first.kind, first.chosen) == (AttemptKind.ORIGINAL, False)
        assert (second.kind, second.chosen) == (AttemptKind.STEER, True)
        assert second.reply == "Take care. " + STORY
        assert first.reply is not None
        assert first.reply.startswith("Take a bomb.")
        assert entry.record.action is TurnAction.STEER


async def test_an_appeal_flags_the_turn_and_counts_once(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    blocked = await client.post("/v1/chat/completions", json=HARMFUL)
    turn_id = blocked.headers["x-safechat-turn-id"]
    appeal = {"turn_id": turn_id, "kind": "appeal", "text": "It is for a bath."}
    first = await client.post("/v1/feedback", json=appeal)
    again = await client.post("/v1/feedback", json=appeal)
    assert (first.status_code, first.json()["joined"]) == (200, True)
    assert first.json() == again.json()
    entry = await kept(gateway, turn_id)
    assert Flag.GUARD_APPEAL in entry.record.flags
    assert [given.text for given in entry.feedback] == ["It is for a bath."]
    found = {"source": "guard", "rule": "appeal", "state": "suspected"}
    assert gateway.sample("safechat_false_refusals_total", **found) == 1
    assert "safechat_journal_pending 1.0" in (await client.get("/metrics")).text


async def test_turns_belong_to_the_key_that_made_them(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    _, _, report = folded(await stream(client, ask(**NAMED)))
    other = {"authorization": f"Bearer {THEIRS}"}
    body = {"turn_id": report["turn_id"], "kind": "thumbs_up"}
    assert (await client.post("/v1/feedback", json=body, headers=other)).status_code == 404
    assert (await client.delete("/v1/conversations/boats", headers=other)).status_code == 404
    assert (await client.post("/v1/feedback", json=body)).status_code == 200
    erased = await client.delete("/v1/conversations/boats")
    assert erased.json()["turns"] == 1
    gone = await client.post("/v1/feedback", json=body)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "unknown_turn")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"turn_id": "x", "kind": "applause"}, "kind"),
        ({"kind": "appeal"}, "turn_id"),
        ({"turn_id": "x", "kind": "report", "text": "x" * 5000}, "text"),
    ],
)
async def test_bad_feedback_is_named(
    client: httpx.AsyncClient, body: dict[str, str], param: str
) -> None:
    response = await client.post("/v1/feedback", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


class FullDisk(SqliteJournal):
    """A journal that cannot be written."""

    async def record(self, record: TurnRecord) -> None:
        raise JournalUnavailable("no space left on device")

    async def counters(self) -> Counters:
        return Counters(failures=1)


@pytest.mark.parametrize("on_failure", list(OnJournalFailure))
async def test_when_the_journal_cannot_be_written_turns_go_on_or_fail_as_set(
    engine: ScriptedEngine, tmp_path: Path, on_failure: OnJournalFailure
) -> None:
    settings = quick_settings(journal=JournalSettings(folder=tmp_path, on_failure=on_failure))
    async with FullDisk(tmp_path / "full.sqlite") as broken:
        journal: Journal = broken
        async with (
            run_gateway(
                settings, engine_url=engine.url, guard=scripted_guard(), journal=journal
            ) as gateway,
            client_for(gateway) as client,
        ):
            response = await client.post("/v1/chat/completions", json=ask())
            last = (await stream(client, ask()))[-1]
            if on_failure is OnJournalFailure.SERVE:
                assert response.status_code == 200
                assert last["choices"][0]["finish_reason"] == "stop"
                assert gateway.outcomes() == {"completed": 2}
            else:
                assert response.status_code == 503
                assert last["error"]["type"] == "journal_error"
                assert gateway.outcomes() == {"guard_failed": 2}
            assert gateway.sample("safechat_journal_turns_total", result="failed") == 2
