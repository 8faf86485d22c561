"""Benchmarks: what a reply is marked with, and what a file must be."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.evaluation.benchmarks.bias import Bias
from flywheel.evaluation.benchmarks.gsm8k import SHOTS, Gsm8k
from flywheel.evaluation.benchmarks.harness import HarnessFailed, run_harness
from flywheel.evaluation.benchmarks.measure import TASKS, UnknownTask, tasks
from flywheel.evaluation.benchmarks.task import NoData, Task
from flywheel.evaluation.benchmarks.toxigen import ToxiGen
from flywheel.evaluation.benchmarks.truthfulqa import TruthfulQa

FILES: dict[str, list[dict[str, Any]]] = {
    "gsm8k.jsonl": [
        {"question": f"What is {n} and {n}?", "answer": f"It doubles.\n#### {2 * n:,}"}
        for n in (700, 8, 9)
    ],
    "truthfulqa.jsonl": [
        {"question": "Where is up?", "category": "Space", "best": "Above", "incorrect": ["Below"]}
    ],
    "toxigen_demonstrations.jsonl": [
        {"group": group, "hateful": hateful, "text": f"{group} {n}"}
        for group in ("cats", "dogs")
        for hateful in (0, 1)
        for n in range(8)
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, rows in FILES.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("reply", "right", "unreadable"),
    [
        ("700 + 700 = 1400. The answer is 1400.", 1.0, False),
        ("The answer is $1,400.00", 1.0, False),
        ("The answer is 7. No: the answer is 1400.", 1.0, False),
        ("The answer is 14000.", 0.0, False),
        ("1400", 0.0, True),
        ("", 0.0, True),
    ],
)
def test_a_sum_counts_by_its_last_sentence(
    data: Path, reply: str, right: float, unreadable: bool
) -> None:
    task = Gsm8k()
    question = task.questions(data, None, 0)[0]
    assert task.marks(question, reply, None) == {"gsm8k": right}
    assert task.unreadable(reply) is unreadable


def test_worked_examples_come_first_and_are_marked_right_themselves(data: Path) -> None:
    task = Gsm8k()
    [question, *_] = task.questions(data, None, 0)
    assert len(question.messages) == 2 * len(SHOTS) + 1 == 17
    assert question.messages[-1]["content"] == "What is 700 and 700?"
    assert not any(task.unreadable(answer) for _, answer in SHOTS)


def test_the_true_answer_counts_by_its_letter_wherever_it_stands(data: Path) -> None:
    task = TruthfulQa()
    keys = set()
    for seed in range(20):
        [question] = task.questions(data, None, seed)
        keys.add(question.key)
        assert f"{question.key}. Above" in question.messages[0]["content"]
        assert task.marks(question, f"{question.key}.", None) == {"truthfulqa": 1.0}
        assert task.marks(question, f"Answer: {question.key.lower()}) it is", None) == {
            "truthfulqa": 1.0
        }
        assert task.marks(question, "Above", None) == {"truthfulqa": 0.0}
    assert keys == {"A", "B"}
    assert task.unreadable("Above")
    assert not task.unreadable("B")


def test_toxic_lines_are_asked_for_by_group_and_judged_by_safety(data: Path) -> None:
    task = ToxiGen()
    questions = task.questions(data, None, 0)
    assert {question.group for question in questions} == {"cats", "dogs"}
    assert all(q.messages[0]["content"].count(f"- {q.group} ") == 5 for q in questions)
    assert task.marks(questions[0], "…", 0.2) == {"toxigen": 1.0}
    assert task.marks(questions[0], "…", 0.9) == {"toxigen": 0.0}
    assert task.marks(questions[0], "", None) == {"toxigen": 0.0}


def test_sentiment_is_taken_of_groups_and_pronouns_of_occupations() -> None:
    task = Bias()
    questions = task.questions(None, None, 0)
    by_group = next(q for q in questions if q.key is None)
    she = next(q for q in questions if q.key == "she")
    assert task.marks(by_group, "Everyone loved this wonderful day.", None)["sentiment"] > 0.5
    assert task.marks(she, "She took her coat and told him.", None) == {"stereotype": 1.0}
    assert task.marks(she, "He left.", None) == {"stereotype": 0.0}
    assert task.marks(she, "They left. The heat was on.", None) == {}


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_asks_the_same_questions(data: Path, name: str) -> None:
    [task] = tasks([name])
    first = task.questions(data, 2, 3)
    assert first == task.questions(data, 2, 3)
    assert len(first) <= 2
    assert len({question.id for question in first}) == len(first)
    assert isinstance(task, Task)


def test_bad_files_and_names_are_named(data: Path) -> None:
    (data / "gsm8k.jsonl").write_text('{"question": "?"}\n', encoding="utf-8")
    (data / "truthfulqa.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(NoData, match="line 1: a row has the fields question, answer"):
        Gsm8k().questions(data, None, 0)
    with pytest.raises(NoData, match="no rows at all"):
        TruthfulQa().questions(data, None, 0)
    with pytest.raises(NoData, match="name the folder that has it with --data"):
        ToxiGen().questions(None, None, 0)
    with pytest.raises(UnknownTask, match="no task is called chess; there are gsm8k, "):
        tasks(["gsm8k", "chess"])


HARNESS = """#!/usr/bin/env python3
import json, os, pathlib, sys
assert os.environ["HF_HUB_OFFLINE"] == "1"
named = dict(zip(sys.argv[2::1], sys.argv[3::1]))
out = pathlib.Path(named["--output_path"]) / "m"
out.mkdir(parents=True)
with (out / f"samples_{named['--tasks']}_now.jsonl").open("w") as file:
    for n, right in enumerate([1.0, 0.0]):
        sample = {"doc_id": n, "metrics": ["exact_match"], "exact_match": right}
        print(json.dumps(sample), file=file)
"""


def run(program: Path | str, folder: Path) -> dict[str, Any]:
    return dict(
        run_harness(
            str(program),
            ["sums"],
            include=folder,
            url="http://127.0.0.1:1",
            model="m",
            out=folder / "out",
            limit=2,
            seed=0,
            parallel=1,
        )
    )


def test_the_harness_is_a_program_whose_samples_are_read(tmp_path: Path) -> None:
    program = tmp_path / "lm_eval"
    program.write_text(HARNESS, encoding="utf-8")
    program.chmod(0o755)
    found = run(program, tmp_path)
    assert {id: values.values for id, values in found.items()} == {
        "sums-0": {"harness/sums": 1.0},
        "sums-1": {"harness/sums": 0.0},
    }


def test_a_harness_that_is_not_there_or_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessFailed, match="install lm-eval"):
        run("no-such-program", tmp_path)
    with pytest.raises(HarnessFailed, match="ended with status 1"):
        run("false", tmp_path)
