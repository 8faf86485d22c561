"""What a replay says of two records of one turn, and of many."""

from pathlib import Path
from typing import Any

import pytest

from flywheel.records import ChoiceRecord, Outcome, PromptRecord, TurnRecord
from flywheel.replay.outlook import LeftOut, Outlook
from flywheel.replay.report import Report
from flywheel.replay.trail import Trail
from guard.types import Flag, RefusalKind, Verdict
from tests.fakes.turns import SECRET, turn_record

ABOUT = {"engine": "recorded", "guard": ["safety@2"]}


def prompt_blocked(**more: Any) -> TurnRecord:
    flags = {Flag.UNSAFE_PROMPT, Flag.REFUSAL}
    prompt = PromptRecord(safety=0.1, verdict=Verdict.BLOCK, flags=frozenset(flags))
    return turn_record(prompt=prompt, choices=(), outcome=Outcome.BLOCKED_PROMPT, **more)


def replied(**choice: Any) -> TurnRecord:
    whole = {"index": 0, "reply": "No.", "safety": 0.9, "refusal": RefusalKind.COMPLIANCE, **choice}
    return turn_record(choices=(ChoiceRecord.model_validate(whole),))


def report(*pairs: tuple[TurnRecord, TurnRecord]) -> dict[str, Any]:
    found = Report()
    for before, after in pairs:
        found.add(Outlook.of(before, after))
    return found.as_json()


def test_a_turn_that_comes_out_the_same_has_not_changed() -> None:
    found = report((replied(), replied()))
    assert (found["turns"], found["changed"], found["examples"]) == (1, 0, {})
    assert found["changes"]["blocked_response"]["known"] == 1


def test_verdicts_are_told_by_stage_as_gained_and_lost() -> None:
    blocked = replied(verdict=Verdict.BLOCK, flags={Flag.UNSAFE_RESPONSE, Flag.REFUSAL})
    found = report((prompt_blocked(), replied()), (replied(), blocked), (replied(), replied()))
    prompts, replies = found["changes"]["blocked_prompt"], found["changes"]["blocked_response"]
    assert prompts == {"known": 3, "before": 1, "after": 0, "gained": 0, "lost": 1}
    assert replies == {"known": 2, "before": 0, "after": 1, "gained": 1, "lost": 0}
    assert found["changes"]["unsafe_response"]["gained"] == 1
    assert found["changes"]["refusal"] == {
        "known": 3, "before": 1, "after": 1, "gained": 1, "lost": 1,
    }  # fmt: skip
    assert found["changed"] == 2
    assert found["examples"]["blocked_prompt lost"] == ["turn-1"]


def test_a_models_own_refusal_is_told_apart_from_the_guards() -> None:
    found = report((replied(), replied(refusal=RefusalKind.FULL)))
    assert found["changes"]["refused"]["gained"] == 1
    assert found["changes"]["blocked_response"]["gained"] == 0


def test_flags_that_users_raised_are_no_change() -> None:
    before = turn_record(flags={Flag.USER_REPORT, Flag.UNHELPFUL})
    assert report((before, turn_record()))["changed"] == 0


def test_what_was_never_reached_is_not_compared() -> None:
    failed = turn_record(choices=(), outcome=Outcome.ENGINE_FAILED, error="not_recorded")
    found = report((replied(), failed))
    assert "blocked_response" not in found["changes"]
    assert "unhelpful" not in found["changes"]
    assert found["errors"] == {"not_recorded": 1}


def test_scores_are_means_over_turns_that_have_both() -> None:
    found = report((replied(safety=0.9), replied(safety=0.5)), (replied(), prompt_blocked()))
    safety = found["scores"]["response_safety"]
    assert safety == pytest.approx({"known": 1, "before": 0.9, "after": 0.5, "move": 0.4, "far": 1})
    assert found["scores"]["prompt_safety"]["known"] == 2


def test_a_trail_goes_on_behind_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "trail.jsonl"
    same = Outlook.of(replied(), replied())
    with Trail(path, ABOUT) as trail:
        assert list(trail.earlier()) == []
        trail.add(same)
        trail.add(LeftOut(turn_id="turn-2", reason="without_text"))
    assert SECRET not in path.read_text(encoding="utf-8")
    with path.open("ab") as file:
        file.write(b'{"turn_id": "cut sho')
    with Trail(path, ABOUT) as trail:
        assert [found.turn_id for found in trail.earlier()] == ["turn-1", "turn-2"]
        trail.add(same.model_copy(update={"turn_id": "turn-3"}))
    with Trail(path, ABOUT) as trail:
        assert [found.turn_id for found in trail.earlier()] == ["turn-1", "turn-2", "turn-3"]


def test_a_trail_of_another_replay_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trail.jsonl"
    with Trail(path, ABOUT):
        pass
    with pytest.raises(ValueError, match="another replay"), Trail(path, {"engine": "new"}):
        pass
    with path.open("ab") as file:
        file.write(b"{}\n")
    with Trail(path, ABOUT) as trail, pytest.raises(ValueError, match="damaged"):
        list(trail.earlier())
