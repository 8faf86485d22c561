"""Two endpoints compared: a liking for a place is no win, and a garbled answer no verdict."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from flywheel.evaluation.helpfulness.compare import measure_helpfulness
from flywheel.evaluation.helpfulness.sheet import (
    BadRatings,
    agreement,
    outcomes,
    read_ratings,
    target_is_left,
    write_sheet,
)
from flywheel.evaluation.runs.endpoint import Endpoint
from flywheel.evaluation.runs.items import BadItems, Item
from flywheel.evaluation.runs.result import Result
from tests.fakes.evaluation import asked, items, options, says, stand
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import Body

PROMPTS = items("Hello?", "Where is north?", "And south?", "Why?")


def likes(word: str) -> ScriptedEngine:
    """A judge that prefers the reply with a word in it, wherever it stands."""

    def by_content(body: Body) -> Script:
        first, _, second = asked(body).partition("SECOND REPLY BEGINS")
        place = "first" if word in first else "second" if word in second else "tie"
        return Script.words(f'{{"better": "{place}"}}')

    return ScriptedEngine(by_content, model="judge", max_model_len=100_000)


async def compared(
    judge: ScriptedEngine, folder: Path, prompts: Sequence[Item] = PROMPTS
) -> Result:
    """An endpoint that says "well" against one that says "badly", by this judge."""
    async with (
        stand(Script.words("All is well with it.")) as here,
        ScriptedEngine(Script.words("It went badly.")) as other,
        judge,
        here.panel(judge=judge.url) as panel,
        Endpoint(other.url) as against,
    ):
        return await measure_helpfulness(prompts, panel, against, options(folder))


async def test_a_judge_that_always_prefers_the_first_place_grants_no_win(tmp_path: Path) -> None:
    result = await compared(says('{"better": "first"}'), tmp_path)
    assert result.measures["position_bias"] == 1.0
    assert result.measures["position_bias_first"] == 1.0
    assert result.measures["inconsistent"] == 1.0
    shares = {name: result.figures[f"{name}_judge"].value for name in ("win", "tie", "loss")}
    assert shares == {"win": 0.0, "tie": 1.0, "loss": 0.0}


async def test_a_judge_that_always_prefers_the_second_place_is_as_biased(tmp_path: Path) -> None:
    result = await compared(says('{"better": "second"}'), tmp_path)
    assert result.measures["position_bias"] == result.measures["position_bias_second"] == 1.0
    assert result.figures["tie_judge"].value == 1.0


@pytest.mark.parametrize(("word", "outcome"), [("well", "win"), ("badly", "loss"), ("?!", "tie")])
async def test_a_judge_that_reads_decides(tmp_path: Path, word: str, outcome: str) -> None:
    result = await compared(likes(word), tmp_path)
    assert result.figures[f"{outcome}_judge"].value == 1.0
    assert result.measures["position_bias"] == result.measures["inconsistent"] == 0.0


async def test_a_verdict_and_a_tie_contradict_each_other(tmp_path: Path) -> None:
    judge = says(['{"better": "first"}', '{"better": "tie"}'])
    result = await compared(judge, tmp_path, PROMPTS[:1])
    assert result.figures["tie_judge"].value == 1.0
    assert (result.measures["inconsistent"], result.measures["position_bias"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        "The first one is better.",
        '{"better": "A"}',
        '{"better": "first", "why": "shorter"}',
        'I think {"better": "first"}',
        '["first"]',
        "",
    ],
)
async def test_malformed_verdicts_are_counted_and_never_guessed(
    tmp_path: Path, answer: str
) -> None:
    result = await compared(says(answer or " "), tmp_path)
    assert result.counts["malformed_verdicts"] == len(PROMPTS)
    assert "win_judge" not in result.figures
    assert result.measures["position_bias"] is None


async def test_a_verdict_in_a_fenced_block_is_one(tmp_path: Path) -> None:
    result = await compared(says('```json\n{"better": "tie"}\n```'), tmp_path)
    assert result.counts["malformed_verdicts"] == 0
    assert result.figures["tie_judge"].value == 1.0


async def test_conversations_that_go_on_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(BadItems, match="several turns"):
        await compared(says("-"), tmp_path, [Item(id="long", turns=("One?", "Two?"))])


async def test_people_see_random_sides_and_their_median_counts(tmp_path: Path) -> None:
    many = items(*(f"Number {n}?" for n in range(20)))
    await compared(says('{"better": "tie"}'), tmp_path, many)
    sheet = [
        orjson.loads(line) for line in write_sheet(tmp_path, many, 0).read_bytes().splitlines()
    ]
    ours_left = [line["left"] == "All is well with it." for line in sheet]
    assert ours_left == [target_is_left(line["item"], 0) for line in sheet]
    assert 0 < sum(ours_left) < len(many)
    said = tmp_path / "ratings.jsonl"
    liked = [2 if left else 6 for left in ours_left]  # our side, clearly
    raters = {"ann": liked, "bob": liked, "cy": [8 - score for score in liked]}
    lines = [
        {"item": line["item"], "rater": rater, "score": scores[n]}
        for rater, scores in raters.items()
        for n, line in enumerate(sheet)
    ]
    said.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    ratings = read_ratings(said, {item.id for item in many}, 0)
    assert set(outcomes(ratings).values()) == {"win"}
    one, two = {"a": {"x": 6, "y": 6}, "b": {"x": 2, "y": 2}}, {"a": {"x": 6, "y": 2}}
    assert agreement(one)["ac2"] == pytest.approx(1.0)
    assert (agreement(two)["ac2"] or 0) < 0.5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"item": "item-0", "rater": "ann", "score": 8}', "line 1: score"),
        (b'{"item": "item-0", "rater": "ann", "score": "6"}', "line 1: score"),
        (b'{"item": "gone", "rater": "ann", "score": 4}', "no item 'gone'"),
        (b"", "no ratings at all"),
    ],
)
def test_ratings_that_say_nothing_are_refused(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_bytes(line)
    with pytest.raises(BadRatings, match=words):
        read_ratings(path, {"item-0"}, 0)
