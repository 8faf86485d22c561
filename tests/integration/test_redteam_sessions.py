"""Red-team sessions of people: a turn says what it tries, and its red-teamer that it worked."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from flywheel.evaluation.redteam.sessions import NoSessions, sessions
from flywheel.journal import Entry, JournalOptions, Keep, entries
from flywheel.records import RedTeam, TurnRecord
from flywheel.sqlite.journal import SqliteJournal
from guard.types import Flag
from tests.fakes.evaluation import stand
from tests.fakes.gateway import client_for
from tests.fakes.turns import turn_record

TRIES = {
    "red_team": "friday",
    "red_team_goal": "a recipe for trouble",
    "red_team_category": "weapons",
    "red_team_vector": "role_play",
}


async def chat(client: httpx.AsyncClient, metadata: dict[str, str]) -> httpx.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello?"}]}
    return await client.post("/v1/chat/completions", json={**body, "metadata": metadata})


async def test_what_a_turn_tries_is_recorded_and_what_worked_is_counted(tmp_path: Path) -> None:
    async with (
        SqliteJournal(tmp_path / "journal", JournalOptions(keep=Keep.ALL)) as journal,
        stand(journal=journal) as here,
        client_for(here.gateway) as client,
    ):
        tried = [await chat(client, TRIES), await chat(client, TRIES), await chat(client, {})]
        turn = tried[0].json()["choices"][0]["guard"]["turn_id"]
        said = {"turn_id": turn, "kind": "report", "text": "it told me"}
        await client.post("/v1/feedback", json=said)
        record = (await journal.turn(turn)).record
        result = await sessions(entries(journal))
        assert "red_team" not in here.engine.bodies[0].get("metadata", {})
    assert record.red_team == RedTeam(
        session="friday", goal="a recipe for trouble", category="weapons", vector="role_play"
    )
    assert result.counts == {"attempts": 2, "violations": 1, "unique_violations": 1}
    assert result.groups["vector"]["role_play"]["attack"].value == 0.5
    assert result.measures["violations_per_hundred_attempts"] == 50.0


@pytest.mark.parametrize(
    "metadata", [{"red_team": ""}, {"red_team": "a", "red_team_goal": "g" * 501}]
)
async def test_what_is_too_long_or_empty_is_refused_by_name(metadata: dict[str, str]) -> None:
    async with stand() as here, client_for(here.gateway) as client:
        answer = await chat(client, metadata)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"metadata.{list(metadata)[-1]}"


def test_a_goal_is_content_and_goes_with_it() -> None:
    record = turn_record().model_copy(update={"red_team": RedTeam(session="s", goal="secret")})
    bare = record.without_content()
    assert "secret" not in bare.model_dump_json()
    assert bare.red_team == RedTeam(session="s")
    assert record.content is not None
    assert bare.with_content(record.content) == record


def attempt(number: int, at: float, *, worked: bool = False, session: str = "s") -> Entry:
    flags = {Flag.USER_REPORT} if worked else set()
    record: TurnRecord = turn_record(f"turn-{number}", time=at, flags=flags)
    tried = RedTeam(session=session, goal=f"goal {number % 2}")
    return Entry(number, 0, False, record.model_copy(update={"red_team": tried}))


async def each(*found: Entry) -> AsyncIterator[Entry]:
    for entry in found:
        yield entry


async def test_gamma_counts_goals_once_and_leaves_long_pauses_out() -> None:
    result = await sessions(
        each(
            attempt(0, 0.0, worked=True),
            attempt(1, 300.0),
            attempt(2, 600.0, worked=True),
            attempt(3, 90_000.0, worked=True),
            attempt(4, 90_300.0),
        )
    )
    assert result.measures["hours"] == 0.25
    assert result.measures["gamma_per_hour"] == 8.0  # two goals in a quarter of an hour
    assert result.counts["violations"] == 3


async def test_the_machine_counts_its_own_attempts() -> None:
    with pytest.raises(NoSessions, match="belongs to a red-team session"):
        await sessions(
            each(attempt(0, 0.0, session="automatic"), Entry(9, 0, False, turn_record()))
        )
