"""Rows of prompts read: their three forms, their ids, and words for what is wrong with a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.evaluation.runs.items import BadItems, read_items


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_prompt_turns_and_messages_are_conversations(tmp_path: Path) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    rows = {"prompt": "One?"}, {"turns": ["One?", "Two?"]}, {"messages": said}
    one, several, long = read_items([written(tmp_path, *rows)])
    assert one.turns == ("One?",)
    assert several.turns == ("One?", "Two?")
    assert (long.history[0].content, long.turns) == ("Be brief.", ("Hello?",))


def test_a_row_without_an_id_is_named_by_its_text(tmp_path: Path) -> None:
    [before] = read_items([written(tmp_path, {"prompt": "One?", "source": "a"})])
    [after] = read_items([written(tmp_path, {"prompt": "One?", "category": "b"})])
    [other] = read_items([written(tmp_path, {"prompt": "Two?"})])
    assert before.id == after.id != other.id


def test_labels_say_what_is_tried(tmp_path: Path) -> None:
    rows = {"prompt": "1", "harmful": 1}, {"prompt": "2", "harmful": 0}
    more = {"prompt": "3", "role": "borderline"}, {"prompt": "4"}
    found = read_items([written(tmp_path, *rows, *more)])
    assert [item.role for item in found] == ["adversarial", "harmless", "borderline", None]


def test_splits_and_sources_are_chosen(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"prompt": "1", "split": "test", "source": "a"},
        {"prompt": "2", "split": "train", "source": "a"},
        {"prompt": "3", "split": "test", "source": "b"},
        {"prompt": "4", "source": "a"},
    )
    assert [i.turns[0] for i in read_items([path], splits=["test"])] == ["1", "3", "4"]
    assert [i.turns[0] for i in read_items([path], sources=["b"])] == ["3"]


def test_a_limit_draws_by_lot_and_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, *({"prompt": str(n), "source": "ab"[n % 2]} for n in range(50)))
    drawn = [read_items([path], limit=10, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [item.source for item in drawn[0]].count("a") == 10
    assert len(drawn[0]) == 20


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "rows.jsonl: no rows at all"),
        ([{"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}], "line 2: the id '1' was there"),
        ([{"prompt": "a"}, {"prompt": "a"}], "drop the row or give ids"),
        (["{cut"], "line 1: no JSON"),
        (['"text"'], "line 1: a row is a JSON object"),
        ([{"question": "a"}], "one of prompt, turns and messages"),
        ([{"prompt": "a", "turns": ["b"]}], "one of prompt, turns and messages"),
        ([{"prompt": " "}], "a turn is empty"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], "end with the user's"),
        ([{"prompt": "a", "role": "evil"}], "role"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(BadItems, match=words):
        read_items([written(tmp_path, *rows)])


def test_filters_that_leave_nothing_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "a", "split": "train"})
    with pytest.raises(BadItems, match="no rows of the splits test and the sources ours"):
        read_items([path], splits=["test"], sources=["ours"])
    with pytest.raises(BadItems, match="name at least one file"):
        read_items([])
