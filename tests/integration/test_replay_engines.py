"""Replay asks whatever speaks OpenAI's chat API: a gateway, a service, with or without a key."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flywheel.journal import JournalOptions, Keep, entries
from flywheel.records import ChoiceRecord, RecordedMessage
from flywheel.replay.report import Report
from flywheel.replay.run import Selection, replay
from flywheel.sqlite.journal import SqliteJournal
from guard.types import RefusalKind
from safechat.__main__ import app
from server.auth import hash_key
from server.chat_api import ChatApi
from server.metrics import Metrics
from server.settings import ApiKey, GhostSettings, JournalSettings, Settings
from server.shadow import Shadow
from tests.fakes.chat import STORY
from tests.fakes.gateway import quick_settings, run_gateway
from tests.fakes.plain_chat_api import PlainChatApi
from tests.fakes.scorer import ScriptedLabeller, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.turns import turn_record

DECLINED = "I am sorry, no."
TURNS = 5


@pytest.fixture
async def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of a model that told stories, and settings under which all is allowed."""
    monkeypatch.setenv("SAFECHAT_GUARD__SCORER", "constant")
    monkeypatch.setenv("SAFECHAT_ENGINE__API_KEY", "of-the-deployments-own-engine")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "journal.sqlite"
    async with SqliteJournal(path, JournalOptions(keep=Keep.ALL)) as journal:
        for number in range(TURNS):
            asked = RecordedMessage(role="user", text=f"Story {number}, please.")
            told = ChoiceRecord(index=0, reply=STORY, safety=0.97, refusal=RefusalKind.COMPLIANCE)
            record = turn_record(
                f"turn-{number}", system=None, messages=(asked,), choices=(told,), attempts=()
            )
            await journal.record(record)
    return path


@pytest.fixture
async def declining() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(Script.words(DECLINED)) as engine:
        yield engine


async def call(*words: str | Path) -> Result:
    command = ["flywheel", "replay", *map(str, words)]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def report_of(*words: str | Path) -> dict[str, Any]:
    done = await call(*words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def keyed_settings(folder: Path, key: str) -> Settings:
    keys = (ApiKey(id="replay", sha256=hash_key(key)),)
    return quick_settings(keys=keys, journal=JournalSettings(folder=folder, keep=Keep.ALL))


async def test_a_gateway_makes_the_new_replies(
    recorded: Path, tmp_path: Path, declining: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-replay")
    settings = keyed_settings(tmp_path / "elsewhere", "sk-replay")
    async with run_gateway(
        settings, engine_url=declining.url, guard=scripted_guard(labeller=ScriptedLabeller())
    ) as gateway:
        found = await report_of("--journal", recorded, "--engine", f"{gateway.url}/v1")
        assert gateway.outcomes() == {"completed": TURNS}
    assert (found["turns"], found["errors"], found["left_out"]) == (TURNS, {}, {})
    asked = {body["messages"][-1]["content"] for body in declining.bodies}
    assert asked == {f"Story {number}, please." for number in range(TURNS)}


async def test_a_gateway_that_records_into_the_same_journal_is_not_asked_for_ever(
    recorded: Path, declining: ScriptedEngine
) -> None:
    labeller = ScriptedLabeller()
    async with (
        SqliteJournal(recorded, JournalOptions(keep=Keep.ALL)) as journal,
        run_gateway(
            quick_settings(),
            engine_url=declining.url,
            guard=scripted_guard(labeller=labeller),
            journal=journal,
        ) as gateway,
        ChatApi(gateway.url, quick_settings().engine) as engine,
    ):
        report = Report()
        shadow = Shadow(
            scripted_guard(labeller=labeller),
            GhostSettings(),
            Metrics().turns,
            engine=engine,
            info=await engine.info(),
        )
        await replay(journal, shadow.again, report, selection=Selection(), at_once=3)
        assert len([entry async for entry in entries(journal)]) == 2 * TURNS
    assert report.turns == TURNS
    assert report.changes["refused"].after == TURNS


async def test_a_service_without_vllms_extras_makes_them(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-service")
    async with PlainChatApi(DECLINED, models=("large", "small"), key="sk-service") as service:
        found = await report_of("--journal", recorded, "--engine", service.url, "--model", "small")
    assert (found["turns"], found["errors"]) == (TURNS, {})
    assert {body["model"] for body in service.bodies} == {"small"}


async def test_a_service_that_is_busy_is_asked_again(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.chat_api._PAUSES_S", (0.01,) * 3)
    async with PlainChatApi(DECLINED, busy=3) as service:
        found = await report_of("--journal", recorded, "--engine", service.url, "--at-once", "1")
    assert (found["turns"], found["errors"]) == (TURNS, {})


@pytest.mark.parametrize(
    ("models", "words", "said"),
    [
        (("large", "small"), [], "serves large, small: name one"),
        (("large", "small"), ["--model", "tiny"], "serves large, small: name one"),
        ((), [], "serves no model: name one"),
    ],
)
async def test_a_model_that_has_to_be_named_is_asked_for(
    recorded: Path, models: tuple[str, ...], words: list[str], said: str
) -> None:
    async with PlainChatApi(DECLINED, models=models) as service:
        failed = await call("--journal", recorded, "--engine", service.url, *words)
    assert failed.exit_code == 2
    assert said in failed.stderr


async def test_a_key_that_is_missing_is_asked_for_and_the_deployments_own_is_not_given_away(
    recorded: Path,
) -> None:
    async with PlainChatApi(DECLINED, key="of-the-deployments-own-engine") as service:
        failed = await call("--journal", recorded, "--engine", service.url)
    assert failed.exit_code == 2
    assert "OPENAI_API_KEY" in failed.stderr


async def test_what_speaks_another_language_is_said(
    recorded: Path, declining: ScriptedEngine
) -> None:
    failed = await call("--journal", recorded, "--engine", f"{declining.url}/strange")
    assert failed.exit_code == 2
    assert f"{declining.url}/strange: it has no /v1/models" in failed.stderr.replace("\n", "")
