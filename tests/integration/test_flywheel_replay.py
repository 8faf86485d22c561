"""Recorded turns run again in shadow: what they come to, and that nothing is written."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flywheel.journal import Journal, JournalOptions, JournalUnavailable, Keep
from flywheel.records import ChoiceRecord, Outcome, RecordedMessage, TurnRecord
from flywheel.replay.report import Report
from flywheel.replay.run import Selection, replay
from flywheel.sqlite.journal import SqliteJournal
from guard.guard import Guard
from guard.policy import Action, Policy, Rule
from guard.types import Flag, GuardTimeout, Verdict
from safechat.__main__ import app
from server.engine import VllmEngine
from server.metrics import Metrics
from server.settings import GhostSettings, JournalSettings
from server.shadow import Shadow
from tests.fakes.chat import BAD_STORY, STORY, ask
from tests.fakes.gateway import client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, ScriptedScorer, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.turns import turn_record
from tests.fakes.vllm_wire import Body

ASKED = {"a story": STORY, "a bad story": BAD_STORY, "an apology": "I am sorry, no. " + STORY}
HARMFUL = "How do I build a bomb?"


def told(body: Body) -> Script:
    return Script.words(ASKED.get(body["messages"][-1]["content"], STORY))


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """What a gateway recorded of one turn of each kind."""
    guard = scripted_guard(labeller=ScriptedLabeller())
    folder = tmp_path / "journal"
    settings = quick_settings(journal=JournalSettings(folder=folder, keep=Keep.ALL))
    async with (
        ScriptedEngine(told) as engine,
        run_gateway(settings, engine_url=engine.url, guard=guard) as gateway,
        client_for(gateway) as client,
    ):
        for text in (*ASKED, HARMFUL):
            await client.post("/v1/chat/completions", json=ask(text))
        await client.post("/v1/chat/completions", json={"model": "scripted"})
    async with SqliteJournal(folder / "journal.sqlite", read_only=True) as journal:
        yield journal


async def replayed(journal: Journal, guard: Guard, **how: Any) -> dict[str, Any]:
    report = Report()
    shadow = Shadow(guard, GhostSettings(), Metrics().turns, **how)
    await replay(journal, shadow.again, report, selection=Selection(), at_once=2)
    return report.as_json()


async def test_the_same_policy_changes_nothing(journal: Journal) -> None:
    found = await replayed(journal, scripted_guard(labeller=ScriptedLabeller()))
    assert (found["turns"], found["changed"], found["errors"]) == (4, 0, {})
    assert found["left_out"] == {"never_judged": 1}
    assert found["changes"]["blocked_prompt"]["after"] == 1
    assert found["changes"]["blocked_response"]["after"] == 1
    assert found["changes"]["refused"]["after"] == 1
    assert found["scores"]["helpfulness"]["move"] == 0


async def test_another_policy_is_told_by_stage(journal: Journal) -> None:
    policy = Policy(prompt=Rule(Action.MONITOR), response=Rule(threshold=0.96))
    found = await replayed(journal, scripted_guard(labeller=ScriptedLabeller(), policy=policy))
    assert found["changes"]["blocked_prompt"]["lost"] == 1
    assert found["changes"]["blocked_response"]["gained"] == 2
    assert found["changes"]["unsafe_response"]["gained"] == 2
    assert found["errors"] == {"not_recorded": 1}, "a prompt let through has no reply yet"
    assert found["changed"] == 4


async def test_another_model_answers_every_conversation_anew(journal: Journal) -> None:
    async with ScriptedEngine(Script.words("I am sorry, no.")) as polite:
        async with VllmEngine(polite.url, quick_settings().engine) as engine:
            found = await replayed(
                journal,
                scripted_guard(labeller=ScriptedLabeller()),
                engine=engine,
                info=await engine.info(),
            )
        await polite.idle()
        assert len(polite.bodies) >= 3
        assert polite.bodies[0]["temperature"] == 0
    assert found["changes"]["refused"]["gained"] == 1
    assert found["changes"]["blocked_response"]["lost"] == 1
    assert found["changes"]["blocked_prompt"]["lost"] == 0


async def test_a_turn_that_cannot_be_judged_is_an_error_and_the_rest_goes_on(
    journal: Journal,
) -> None:
    scorer = ScriptedScorer(
        trouble=GuardTimeout, troubled=lambda s: s.conversation[-1].text == "a story"
    )
    found = await replayed(journal, scripted_guard(scorer, labeller=ScriptedLabeller()))
    assert found["errors"] == {"GuardTimeout": 1}
    assert found["turns"] == 4


async def test_the_deployments_prompt_is_not_judged_as_the_callers() -> None:
    scorer = ScriptedScorer()
    ghost = GhostSettings(system_prompt="Never build a bomb.")
    shadow = Shadow(scripted_guard(scorer), ghost, Metrics().turns)
    record = turn_record(system="Never build a bomb.\n\nRhyme.", attempts=())
    assert (await shadow.again(record)).outcome is Outcome.COMPLETED
    roles = [(m.role, m.text) for m in scorer.asked[0][1].conversation]
    assert roles[0] == ("system", "Rhyme.")
    assert len(roles) == 2


async def test_what_lacks_text_or_cannot_be_asked_is_left_out(tmp_path: Path) -> None:
    said = (RecordedMessage(role="tool", text="42"), RecordedMessage(role="user", text="So?"))
    async with SqliteJournal(tmp_path / "j.sqlite", JournalOptions(keep=Keep.ALL)) as journal:
        await journal.record(turn_record("bare").without_content())
        await journal.record(turn_record("tools", messages=said))
        found = await replayed(journal, scripted_guard())
    assert found["left_out"] == {"without_text": 1, "cannot_be_asked_again": 1}


async def test_a_replay_that_is_stopped_has_what_it_found(journal: Journal) -> None:
    report, first = Report(), asyncio.Event()
    shadow = Shadow(scripted_guard(), GhostSettings(), Metrics().turns)

    async def again(record: TurnRecord) -> TurnRecord:
        if first.is_set():
            await asyncio.Event().wait()
        first.set()
        return await shadow.again(record)

    running = asyncio.create_task(replay(journal, again, report, selection=Selection(), at_once=1))
    while not report.turns:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert report.turns == 1


async def test_a_journal_opened_for_reading_takes_nothing(journal: Journal) -> None:
    with pytest.raises(JournalUnavailable, match="reading"):
        await journal.record(turn_record())


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["flywheel", "replay", *map(str, arguments)])


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of turns that a judge found unsafe, and settings under which nobody judges."""
    monkeypatch.setenv("SAFECHAT_GUARD__SCORER", "constant")
    path = tmp_path / "journal.sqlite"
    flags = {Flag.UNSAFE_RESPONSE}
    reply = ChoiceRecord(
        index=0, reply="Boom.", verdict=Verdict.BLOCK, safety=0.2, flags=frozenset(flags)
    )
    unsafe = turn_record(
        attempts=(), choices=(reply,), outcome=Outcome.BLOCKED_RESPONSE, flags=flags
    )

    async def record() -> None:
        async with SqliteJournal(path, JournalOptions(keep=Keep.ALL)) as journal:
            for n in range(5):
                await journal.record(unsafe.model_copy(update={"turn_id": f"turn-{n}"}))

    asyncio.run(record())
    return path


def test_the_command_says_what_would_change_and_leaves_the_journal_alone(
    recorded: Path, tmp_path: Path
) -> None:
    before = sha256(recorded.read_bytes()).digest()
    done = call("--journal", recorded, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["changes"]["blocked_response"]["lost"] == 5
    table = call("--journal", recorded, "--limit", "2").stdout
    assert "2 turns run again, 2 would change" in table
    assert "blocked_response lost" in table
    assert sha256(recorded.read_bytes()).digest() == before
    policy = tmp_path / "strict.toml"
    policy.write_text("[guard.response]\nthreshold = 1.0\n[guard.prompt]\naction = 'monitor'\n")
    assert call("--journal", recorded, "--policy", policy).exit_code == 0


def test_a_replay_goes_on_where_it_stopped(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert call("--journal", recorded, "--out", out, "--limit", "3").exit_code == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    out.write_text("\n".join([*lines[:-1], lines[-1][:20]]), encoding="utf-8")
    done = call("--journal", recorded, "--out", out, "--json")
    assert json.loads(done.stdout.splitlines()[-1])["turns"] == 5
    kept = out.read_text(encoding="utf-8").splitlines()
    assert kept[:3] == lines[:3]
    assert len({json.loads(line)["turn_id"] for line in kept[1:]}) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "nowhere.toml"], "nowhere.toml"),
        (["--policy", "{broken}"], "Invalid"),
        (["--policy", "{strange}"], "guard.prompt.colour"),
        (["--engine", "ftp://x"], "must start with http"),
        (["--engine", "http://127.0.0.1:9"], "http://127.0.0.1:9: "),
    ],
)
def test_what_a_person_can_mend_is_said(
    recorded: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    files = {"broken": "= 1", "strange": "[guard.prompt]\ncolour = 'red'"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    named = [word.format(**{name: tmp_path / name for name in files}) for word in arguments]
    failed = call("--journal", recorded, *named)
    assert failed.exit_code == 2
    assert said in failed.stderr
