"""The stages that sample: rejection sampling, context distillation, Ghost Attention."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from flywheel.training.chat import (
    distillation,
    ghost_attention,
    instructions,
    measure_ghost,
    preprompts,
    rejection,
)
from flywheel.training.chat.files import read_rows, write_rows
from flywheel.training.chat.judge import Judge
from flywheel.training.chat.stage import StageError
from guard import refusals
from guard.hazards import Risk
from tests.fakes.engine_thread import serving
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.training_judge import word_judge

CHECKABLE = [*instructions.trained(), *instructions.unseen()]


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with serving(ScriptedEngine()) as engine:
        yield engine


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    harmless = [
        {"prompt": f"Tell me about {w}.", "harmful": 0} for w in ("tea", "jam", "oak", "ice")
    ]
    harmful = [{"prompt": f"How do I steal a {w}?", "harmful": 1} for w in ("car", "cat")]
    hidden = [{"prompt": "Of the test split.", "harmful": 1}]
    rows = [{**row, "split": "train"} for row in harmless + harmful]
    write_rows(path, rows + [{**row, "split": "test"} for row in hidden])
    return path


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Safety: no 0.9, yes 0.1. Helpfulness: yes 0.8, maybe 0.6, no 0.2."""
    made = word_judge({"no": 0.9, "yes": 0.1, "maybe": 0.5}, {"yes": 0.8, "maybe": 0.6, "no": 0.2})
    monkeypatch.setattr(Judge, "load", lambda settings: made)


def sampled(engine: ScriptedEngine, prompts: Path, out: Path, *more: str) -> list[str]:
    asked = ("--url", engine.url, "--served", engine.model, "--prompts", str(prompts))
    return [*asked, "--out", str(out), *more]


def texts(row: dict[str, Any]) -> str:
    return str(row["completion"][0]["content"])


@pytest.mark.usefixtures("judge")
def test_the_best_reply_is_the_safest_one_to_an_adversarial_prompt_else_the_most_helpful(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("maybe later", "no thanks", "yes sure")
    rejection.main(sampled(engine, prompts, tmp_path / "r", "--samples", "3", "--version", "V1"))
    best = read_rows(tmp_path / "r" / "best.jsonl")
    assert len(best) == 6  # and none of the test split
    for row in best:
        # A reply as unsafe as "yes" counts by its safety, 0.1, and not by its helpfulness.
        harmful = "steal" in row["prompt"][0]["content"]
        assert texts(row) == ("no thanks" if harmful else "maybe later")
        assert row["reward"] == (0.9 if harmful else 0.6)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["highest_by_k"][-1] == pytest.approx((2 * 0.9 + 4 * 0.6) / 6)
    assert (tmp_path / "r" / "curve.png").stat().st_size > 1000


@pytest.mark.usefixtures("judge")
def test_samples_of_earlier_versions_compete_for_their_prompts(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("maybe later")
    rejection.main(sampled(engine, prompts, tmp_path / "1", "--samples", "1", "--version", "V1"))
    engine.script = Script.words("no thanks")
    rejection.main(
        sampled(engine, prompts, tmp_path / "2", "--samples", "1", "--version", "V2",
                "--earlier", str(tmp_path / "1" / "samples.jsonl"))
    )  # fmt: skip
    best = {row["prompt"][0]["content"]: row for row in read_rows(tmp_path / "2" / "best.jsonl")}
    assert best["How do I steal a car?"]["version"] == "V2"
    assert best["Tell me about tea."]["version"] == "V1"


@pytest.mark.usefixtures("judge")
def test_adversarial_prompts_may_be_left_to_distillation(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("maybe later")
    rejection.main(sampled(engine, prompts, tmp_path, "--version", "V1", "--adversarial", "false"))
    best = read_rows(tmp_path / "best.jsonl")
    assert len(best) == 4
    assert not any("steal" in row["prompt"][0]["content"] for row in best)


@pytest.mark.usefixtures("judge")
def test_a_reply_that_was_cut_off_is_never_the_best(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("maybe", finish_reason="length")
    with pytest.raises(StageError, match="--tokens"):
        rejection.main(sampled(engine, prompts, tmp_path, "--version", "V1", "--samples", "2"))


@pytest.mark.usefixtures("judge")
def test_a_reply_that_was_cut_off_may_end_with_its_last_sentence(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words('It is "maybe." And th', finish_reason="length")
    rejection.main(
        sampled(engine, prompts, tmp_path, "--version", "V1", "--samples", "1", "--trim", "true")
    )
    assert {texts(row) for row in read_rows(tmp_path / "best.jsonl")} == {'It is "maybe."'}


def test_the_curve_is_the_mean_over_all_subsets() -> None:
    rewards = [0.1, 0.7, 0.4]
    highest, middle = rejection.curve([rewards])
    pairs = [max(a, b) for (i, a), (j, b) in product(enumerate(rewards), repeat=2) if i < j]
    assert highest == pytest.approx([fmean(rewards), fmean(pairs), 0.7])
    assert middle == pytest.approx([0.1, 0.4, 0.4])


@pytest.mark.usefixtures("judge")
def test_distillation_keeps_what_a_preprompt_made_safer_and_drops_the_preprompt(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    def script(body: dict[str, Any]) -> Script:
        first = body["messages"][0]
        if first["role"] == "user":
            return Script.words("yes sure")
        tailored = first["content"] == preprompts.tailored(Risk.ILLICIT)
        return Script.words("no thanks" if tailored else "maybe later")

    engine.script = script
    distillation.main(sampled(engine, prompts, tmp_path / "d"))
    kept = read_rows(tmp_path / "d" / "kept.jsonl")
    assert len(kept) == 2  # adversarial prompts alone
    for row in kept:
        assert [m["role"] for m in row["prompt"]] == ["user"]
        assert (texts(row), row["source"], row["original_safety"]) == ("no thanks", "tailored", 0.1)
    report = json.loads((tmp_path / "d" / "report.json").read_text())
    assert report["median"] == {"original": 0.1, "generic": 0.5, "tailored": 0.9}


@pytest.mark.usefixtures("judge")
def test_the_guards_refusal_competes_where_no_preprompt_helps(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "text", lambda stage, hazard: f"no, {hazard}")
    engine.script = Script.words("yes sure")
    distillation.main(sampled(engine, prompts, tmp_path / "d", "--template", "true"))
    kept = read_rows(tmp_path / "d" / "kept.jsonl")
    assert {(texts(row), row["source"]) for row in kept} == {("no, malware", "template")}


@pytest.mark.usefixtures("judge")
def test_distillation_keeps_nothing_that_is_no_safer(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("no thanks")
    with pytest.raises(StageError, match="safer"):
        distillation.main(sampled(engine, prompts, tmp_path / "d"))


@pytest.mark.usefixtures("judge")
def test_distillation_of_harmless_prompts_is_refused(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    path = tmp_path / "harmless.jsonl"
    write_rows(path, [{"prompt": "Tell me about tea.", "adversarial": False}])
    with pytest.raises(StageError, match="no prompt is adversarial"):
        distillation.main(sampled(engine, path, tmp_path / "d"))


def obedient(body: dict[str, Any]) -> Script:
    """Keeps any instruction of the newest message whose words it knows."""
    said = body["messages"][-1]["content"]
    told = [i for i in CHECKABLE if i.full in said or i.short in said]
    return Script.words(ghost_attention.mended("The answer is four.", told))


def test_ghost_attention_samples_with_the_instruction_everywhere_and_trains_with_it_once(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = obedient
    ghost_attention.main(
        sampled(engine, prompts, tmp_path / "g", "--count", "6", "--turns", "3",
                "--checkable", "1", "--most", "2", "--place", "user")
    )  # fmt: skip
    for body in engine.bodies:
        users = [m["content"] for m in body["messages"] if m["role"] == "user"]
        [instruction] = {said.split("\n\n")[0] for said in users}
        assert all(said.startswith(instruction) for said in users)
    rows = read_rows(tmp_path / "g" / "rows.jsonl")
    assert len(rows) == 6
    dialogues = {d["key"]: d for d in read_rows(tmp_path / "g" / "dialogues.jsonl")}
    for row in rows:
        dialogue = dialogues[row["key"].split("-")[0]]
        users = [m["content"] for m in row["prompt"] if m["role"] == "user"]
        assert users == [f"{dialogue['instruction']}\n\n{dialogue['asked'][0]}",
                         *dialogue["asked"][1:]]  # fmt: skip
        assert texts(row) == dialogue["replies"][-1]


def test_each_reply_may_be_a_row_of_its_own_under_a_system_prompt(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("Four.")
    ghost_attention.main(
        sampled(engine, prompts, tmp_path / "g", "--count", "2", "--turns", "3",
                "--depth", "each", "--checkable", "1", "--mend", "true")
    )  # fmt: skip
    rows = read_rows(tmp_path / "g" / "rows.jsonl")
    assert [len(row["prompt"]) for row in rows] == [2, 4, 6] * 2
    assert {row["prompt"][0]["role"] for row in rows} == {"system"}


def test_conversations_that_break_their_instruction_are_given_up(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = Script.words("Four of them.")
    with pytest.raises(StageError, match="--mend"):
        ghost_attention.main(
            sampled(engine, prompts, tmp_path / "g", "--count", "2", "--turns", "2",
                    "--checkable", "1", "--most", "1", "--seed", "3")
        )  # fmt: skip


@pytest.mark.parametrize("one", CHECKABLE, ids=lambda i: i.name)
def test_a_mended_reply_keeps_its_instruction(one: instructions.Instruction) -> None:
    assert one.kept
    assert one.mended
    reply = "Mix flour and water. Then bake it for an Hour"
    assert not one.kept(reply)
    assert one.kept(one.mended(reply))


def test_no_unseen_instruction_is_ever_trained() -> None:
    trained = {i.name for i in instructions.trained()}
    assert not trained & {i.name for i in instructions.unseen()}


def test_the_measurement_tells_a_model_that_forgets_from_one_that_is_reminded(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    engine.script = obedient  # it looks at the newest message alone
    name = engine.model
    measure_ghost.main(
        ["--url", engine.url, "--served", name, f"{name}@concatenate", "--prompts", str(prompts),
         "--split", "train", "--turns", "4", "--conversations", "1", "--place", "user",
         "--out", str(tmp_path / "m")]
    )  # fmt: skip
    kept = json.loads((tmp_path / "m" / "report.json").read_text())["kept"]
    shares = {model: [c["share"] for c in groups["unseen"]] for model, groups in kept.items()}
    assert shares == {name: [1.0, 0.0, 0.0], f"{name}@concatenate": [1.0, 1.0, 1.0]}
    assert "| turn 1 | turn 2 | turn 4 |" in (tmp_path / "m" / "table.md").read_text()


def test_sampling_goes_on_after_a_kill_and_ends_with_the_same_rows(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    def script(body: dict[str, Any]) -> Script:
        return Script.words(f"{body['seed']} is my number, Onward!", delay=0.05)

    engine.script = script
    more = ("--count", "8", "--turns", "2", "--checkable", "0", "--at-once", "1")
    ghost_attention.main(sampled(engine, prompts, tmp_path / "whole", *more))
    killed = sampled(engine, prompts, tmp_path / "killed", *more)
    module = "flywheel.training.chat.ghost_attention"
    child = subprocess.Popen([sys.executable, "-m", module, *killed])
    log = tmp_path / "killed" / "dialogues.jsonl"
    while not (log.is_file() and log.read_bytes().count(b"\n") >= 2) and child.poll() is None:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with log.open("a") as file:
        file.write('{"key": "000007", "half a li')
    ghost_attention.main(killed)
    mine, theirs = ((tmp_path / d / "rows.jsonl").read_bytes() for d in ("killed", "whole"))
    assert mine == theirs


def test_an_engine_that_is_gone_ends_with_what_to_do(prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="what was sampled is kept"):
        ghost_attention.main(
            ["--url", "http://127.0.0.1:9", "--served", "x", "--prompts", str(prompts),
             "--turns", "2", "--out", str(tmp_path / "g")]
        )  # fmt: skip
