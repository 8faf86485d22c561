"""`/v1/review` over HTTP: who may rate, what the answers look like, and the typed errors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.journal import Journal
from flywheel.sqlite.journal import SqliteJournal
from guard.types import Flag
from server.auth import hash_key
from server.settings import ApiKey, Scope
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.turns import flagged_record

ITEM = "safety:turn-1"
KEYS = (
    ApiKey(id="rita", sha256=hash_key("reviews"), scopes=frozenset({Scope.REVIEW})),
    ApiKey(id="carl", sha256=hash_key("chats"), scopes=frozenset({Scope.CHAT})),
)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with SqliteJournal(tmp_path / "journal.sqlite") as journal:
        await journal.record(flagged_record(flags={Flag.FALSE_REFUSAL, Flag.REFUSAL}))
        yield journal


@pytest.fixture
async def gateway(engine: ScriptedEngine, journal: Journal) -> AsyncIterator[RunningGateway]:
    async with run_gateway(
        quick_settings(), engine_url=engine.url, guard=scripted_guard(), journal=journal
    ) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(gateway) as client:
        yield client


def says(score: int = 4, **more: Any) -> dict[str, Any]:
    return {"task": "safety", "item_id": ITEM, "score": score, **more}


def rater(name: str) -> dict[str, str]:
    return {"x-safechat-rater": name}


async def rate(client: httpx.AsyncClient, name: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/review/ratings", json=says(**more), headers=rater(name))


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    found = response.json()["error"]
    return response.status_code, found["type"], found["code"]


async def test_two_raters_on_one_machine_confirm_a_false_refusal(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    queue = (await client.get("/v1/review/queue", headers=rater("ada"))).json()["data"]
    assert [place["item_id"] for place in queue] == [ITEM]
    claimed = await client.post("/v1/review/claims", json={"task": "safety"}, headers=rater("ada"))
    assert claimed.json()["item"]["details"] is None
    held = await client.post("/v1/review/claims", json={"item_id": ITEM}, headers=rater("ben"))
    assert error(held) == (409, "conflict_error", "item_held")
    for name in ("ada", "ben"):
        answer = await rate(client, name, false_refusal=True)
        assert answer.status_code == 200, answer.text
    assert answer.json()["details"]["false_refusal"] == "confirmed"
    counted = {"source": "guard", "rule": "disputed", "state": "confirmed"}
    assert gateway.sample("safechat_false_refusals_total", **counted) == 1
    status = (await client.get("/v1/review/status")).json()
    assert status["tasks"]["safety"]["reviewed"] == 1
    assert status["false_refusals"]["confirmed"] == 1
    agreement = (await client.get("/v1/review/agreement")).json()
    assert agreement["tasks"]["safety"]["n_paired"] == 1


async def test_a_claim_is_given_back(client: httpx.AsyncClient) -> None:
    await client.post("/v1/review/claims", json={"task": "safety"}, headers=rater("ada"))
    gone = await client.delete(f"/v1/review/claims/{ITEM}", headers=rater("ada"))
    assert gone.json() == {"item_id": ITEM, "released": True}
    again = await client.post("/v1/review/claims", json={"task": "safety"}, headers=rater("ben"))
    assert again.json()["item"]["item_id"] == ITEM


async def test_skip_and_undo(client: httpx.AsyncClient) -> None:
    skipped = await client.post(f"/v1/review/items/{ITEM}/skip", headers=rater("ada"))
    assert skipped.json() == {"item_id": ITEM, "skipped": True}
    left = await client.post("/v1/review/claims", json={"task": "safety"}, headers=rater("ada"))
    assert left.json() == {"item": None}
    await rate(client, "ben")
    undone = await client.post("/v1/review/undo", json={}, headers=rater("ben"))
    assert undone.json() == {"item_id": ITEM, "undone": True}
    nothing = await client.post("/v1/review/undo", json={}, headers=rater("ben"))
    assert error(nothing) == (409, "conflict_error", "nothing_to_undo")


async def test_a_second_answer_is_a_conflict_unless_it_replaces(client: httpx.AsyncClient) -> None:
    await rate(client, "ada")
    assert error(await rate(client, "ada")) == (409, "conflict_error", "already_rated")
    assert (await rate(client, "ada", replace=True)).status_code == 200


@pytest.mark.parametrize("wrong", [{"score": 0}, {"score": 6}, {"hazard": "boredom"}, {"x": 1}])
async def test_a_wrong_answer_is_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    refused = await client.post("/v1/review/ratings", json=says() | wrong)
    assert error(refused) == (400, "invalid_request_error", "invalid_value")


@pytest.mark.parametrize("body", [{}, {"task": "safety", "item_id": ITEM}, {"task": "beauty"}])
async def test_a_claim_names_a_task_or_an_item(
    client: httpx.AsyncClient, body: dict[str, str]
) -> None:
    refused = await client.post("/v1/review/claims", json=body)
    assert error(refused) == (400, "invalid_request_error", "invalid_value")


async def test_an_unknown_item_is_not_found(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/review/items/safety:nothing")
    assert error(missing) == (404, "not_found_error", "unknown_item")


async def test_a_second_reply_is_made_through_the_guard(
    engine: ScriptedEngine, client: httpx.AsyncClient, journal: Journal
) -> None:
    await journal.record(flagged_record("single", attempts=(), system="Be brief."))
    engine.enqueue(Script.words("Here is another way to say it."))
    body = {"item_id": "preference:single"}
    item = (await client.post("/v1/review/claims", json=body)).json()["item"]
    assert "Here is another way to say it." in (item["left"], item["right"])
    assert engine.bodies[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_a_second_reply_that_the_guard_blocks_is_never_shown(
    engine: ScriptedEngine, client: httpx.AsyncClient, journal: Journal
) -> None:
    await journal.record(flagged_record("single", attempts=()))
    engine.enqueue(Script.words("First you build a bomb and then you run."))
    refused = await client.post("/v1/review/claims", json={"item_id": "preference:single"})
    assert error(refused) == (404, "not_found_error", "unknown_item")
    assert "bomb" not in str([r.model_dump() for r in await journal.ratings("preference:single")])


async def test_the_rater_is_the_key(engine: ScriptedEngine, journal: Journal) -> None:
    settings = quick_settings(keys=KEYS)
    async with (
        run_gateway(
            settings, engine_url=engine.url, guard=scripted_guard(), journal=journal
        ) as gateway,
        client_for(gateway) as client,
    ):
        nobody = await client.get("/v1/review/queue")
        assert error(nobody) == (401, "authentication_error", "missing_api_key")
        carl = {"authorization": "Bearer chats"}
        stranger = await client.get("/v1/review/queue", headers=carl)
        assert error(stranger) == (403, "permission_error", "missing_scope")
        client.headers["authorization"] = "Bearer reviews"
        other = await rate(client, "ben")
        assert error(other) == (400, "invalid_request_error", "invalid_value")
        await client.post("/v1/review/ratings", json=says())
    assert [rating.rater_id for rating in await journal.ratings(ITEM)] == ["rita"]


async def test_without_a_journal_there_is_no_review(engine: ScriptedEngine) -> None:
    async with (
        run_gateway(quick_settings(), engine_url=engine.url, guard=scripted_guard()) as gateway,
        client_for(gateway) as client,
    ):
        missing = await client.get("/v1/review/status")
        assert error(missing) == (404, "not_found_error", "no_journal")


async def test_the_interface_is_described(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    described = {path for path in paths if path.startswith("/v1/review/")}
    assert len(described) == 9
    assert "409" in paths["/v1/review/ratings"]["post"]["responses"]
