"""Once round the flywheel: flagged, reviewed by three people, agreed upon, exported, loaded."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import datasets
import httpx
import pytest
from typer.testing import CliRunner

from guard.policy import Action, Policy, Rule
from safechat.__main__ import app
from server.settings import JournalSettings, ReviewSettings
from tests.fakes.chat import ask
from tests.fakes.gateway import client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

RATERS = ("ada", "ben", "cho")
PLACES = ("a bridge", "a film set", "a quarry", "my cellar", "a game", "a novel")
SCORES = ((1, 1, 2), (5, 4, 5), (2, 1, 1), (4, 5, 5), (1, 2, 1), (1, 3, 5))
"""Of the three raters, by turn. About the last one all three differ."""
STRENGTHS = ("significantly", "better", "better")
CAREFUL, CARELESS = "Take care", "Take a bomb"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway that steers unsafe prompts, so that each leaves a pair of replies."""
    settings = quick_settings(
        journal=JournalSettings(folder=folder),
        review=ReviewSettings(all_raters=True, figures_s=0.5),
    )
    policy = Policy(prompt=Rule(Action.STEER))
    guard = scripted_guard(labeller=ScriptedLabeller(), policy=policy)
    async with (
        ScriptedEngine() as engine,
        run_gateway(settings, engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        for place in PLACES:
            engine.enqueue(Script.words(f"{CARELESS} to {place}."))
            engine.enqueue(Script.words(f"{CAREFUL} of {place}, and leave it."))
            said = ask(f"How do I bring a bomb to {place}?")
            reply = (await client.post("/v1/chat/completions", json=said)).json()
            assert "unsafe_prompt" in reply["choices"][0]["guard"]["flags"]
        yield client


async def post(client: httpx.AsyncClient, rater: str, path: str, body: Any) -> dict[str, Any]:
    headers = {"x-safechat-rater": rater}
    response = await client.post(f"/v1/review/{path}", json=body, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def place_of(item: dict[str, Any]) -> int:
    asked = item["messages"][-1]["content"]
    return next(n for n, place in enumerate(PLACES) if place in asked)


async def rate_safety(client: httpx.AsyncClient, number: int, rater: str) -> None:
    item = (await post(client, rater, "claims", {"task": "safety"}))["item"]
    answer = {"task": "safety", "item_id": item["item_id"], "score": SCORES[place_of(item)][number]}
    assert item["details"] is None, "he answers blind"
    await post(client, rater, "ratings", answer)


async def rate_preference(client: httpx.AsyncClient, number: int, rater: str) -> None:
    item = (await post(client, rater, "claims", {"task": "preference"}))["item"]
    careful = "left" if item["left"].startswith(CAREFUL) else "right"
    answer = {
        "task": "preference",
        "item_id": item["item_id"],
        "chosen": careful,
        "strength": STRENGTHS[number],
        "left_safe": careful == "left",
        "right_safe": careful == "right",
    }
    await post(client, rater, "ratings", answer)


async def command(folder: Path, *words: str | Path) -> str:
    """A command beside the gateway that is running."""
    arguments = ["flywheel", *map(str, words), "--journal", str(folder / "journal.sqlite")]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_a_flagged_conversation_comes_back_as_training_data(
    client: httpx.AsyncClient, folder: Path, tmp_path: Path
) -> None:
    for number, rater in enumerate(RATERS):
        for _ in PLACES:
            await rate_safety(client, number, rater)
            await rate_preference(client, number, rater)

    # About one turn all three differ: it waits for somebody who decides.
    status = (await client.get("/v1/review/status")).json()["tasks"]
    assert status["safety"]["adjudication"] == 1
    item = (await post(client, "dee", "claims", {"task": "safety"}))["item"]
    assert (item["adjudication"], item["round"], place_of(item)) == (True, 2, 5)
    answer = {"task": "safety", "item_id": item["item_id"], "score": 1}
    seen = await post(client, "dee", "ratings", answer)
    assert seen["details"]["verdict"] == {"safety": "violation", "false_refusal": False}
    disputed = seen["turn_id"]

    # How far they agree: by command and over HTTP.
    print(await command(folder, "agreement"))
    found = json.loads((await command(folder, "agreement", "--json")).splitlines()[-1])
    low, high = found["safety"]["ac2_interval"]
    assert low < found["safety"]["ac2"] < high
    assert found["safety"]["ac2"] > found["safety"]["ac1"]
    assert found["preference"]["ac2"] > 0.95, "one reply for all, strengths one step apart"
    assert found["safety"]["n"] == len(PLACES)
    over_http = (await client.get("/v1/review/agreement")).json()["tasks"]
    assert over_http["safety"]["ac2"] == found["safety"]["ac2"]
    shown = f'safechat_review_agreement{{task="safety"}} {found["safety"]["ac2"]}'
    async with asyncio.timeout(30):  # a look at all flagged turns may be ten seconds old
        while shown not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.2)

    # What is learnt from it.
    out = tmp_path / "preference"
    export = ("--near-duplicates", "0", "--splits", "train=1", "--min-raters", "3", "--out")
    await command(folder, "export", "--format", "preference", *export, out)
    pairs = list(datasets.load_dataset(str(out), split="train"))
    assert len(pairs) == len(PLACES)
    for pair in pairs:
        assert pair["prompt"][0]["content"].startswith("How do I bring a bomb")
        assert pair["chosen"][0]["content"].startswith(CAREFUL)
        assert pair["rejected"][0]["content"].startswith(CARELESS)
        assert pair["margin"] == pytest.approx(2 / 3)
        assert pair["source"] == "raters"
    out = tmp_path / "safety"
    await command(folder, "export", "--format", "safety", "--labels", "adjudicated", *export, out)
    labels = {
        row["turn_id"]: row["label"] for row in datasets.load_dataset(str(out), split="train")
    }
    assert labels[disputed] is False
    assert sorted(labels.values()) == [False] * 4 + [True] * 2
