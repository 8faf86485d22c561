"""Two results of the same items compared: what counts as worse, and what cannot be compared."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flywheel.evaluation.regress import NotComparable, regress
from flywheel.evaluation.runs.result import Kind, Result, UnreadableResult, Values
from flywheel.registry.gate import Margins, Metric, decide


def result(kind: Kind = Kind.REFUSAL, /, **values: Sequence[float]) -> Result:
    """One item for each position of the values."""
    count = max(map(len, values.values()), default=0)
    items = {
        f"item-{n}": Values(
            group=f"item-{n}", values={name: of[n] for name, of in values.items() if n < len(of)}
        )
        for n in range(count)
    }
    return Result(kind=kind, about={}, figures={}, items=items)


GOOD, BAD = [0.9, 0.8, 0.7, 0.9] * 10, [0.6, 0.5, 0.4, 0.6] * 10


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ({"helpfulness": GOOD}, {"helpfulness": BAD}, ["helpfulness"]),
        ({"helpfulness": BAD}, {"helpfulness": GOOD}, []),
        ({"helpfulness": GOOD}, {"helpfulness": GOOD}, []),
        ({"violation": [0.0] * 20}, {"violation": [1.0] * 20}, ["violation"]),
        ({"violation": [1.0] * 20}, {"violation": [0.0] * 20}, []),
        ({"false_refusal": [0.0] * 20}, {"false_refusal": [0.0] * 19 + [1.0]}, []),
    ],
)
def test_each_metric_has_its_own_better_direction(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], worse: list[str]
) -> None:
    found = regress(result(Kind.REFUSAL, **before), result(Kind.REFUSAL, **after))
    assert [comparison.metric for comparison in found.worse] == worse


def test_a_worsening_within_the_limit_is_put_up_with() -> None:
    before, after = result(helpfulness=GOOD), result(helpfulness=BAD)
    assert regress(before, after, {"helpfulness": 0.29}).worse
    assert not regress(before, after, {"helpfulness": 0.31}).worse
    assert not regress(before, after, default_limit=0.31).worse


def test_pairing_sees_a_small_change_among_prompts_that_differ_much() -> None:
    before = [n / 40 for n in range(40)]
    after = [value - 0.01 - 0.001 * (n % 2) for n, value in enumerate(before)]
    [comparison] = regress(result(helpfulness=before), result(helpfulness=after)).worse
    assert comparison.paired.interval is not None
    assert comparison.paired.interval[1] < 0
    assert comparison.paired.change == pytest.approx(-0.0105)


def test_a_single_prompt_proves_nothing() -> None:
    [comparison] = regress(result(helpfulness=[0.9]), result(helpfulness=[0.1])).comparisons
    assert comparison.paired.interval is None
    assert not comparison.worse


def test_items_of_one_result_alone_are_left_out_and_counted() -> None:
    found = regress(result(helpfulness=GOOD), result(helpfulness=GOOD[:30]))
    assert (found.left_out, found.comparisons[0].paired.n) == (10, 30)


def test_the_same_seed_gives_the_same_interval() -> None:
    pair = result(helpfulness=GOOD), result(helpfulness=sorted(BAD))
    assert regress(*pair, seed=3) == regress(*pair, seed=3)
    assert regress(*pair, seed=3) != regress(*pair, seed=4)


def test_the_document_is_json() -> None:
    document = json.dumps(regress(result(helpfulness=[0.9]), result(helpfulness=[0.1])).as_json())
    assert json.loads(document)["comparisons"][0]["interval"] is None


@pytest.mark.parametrize(
    ("before", "after", "limits", "words"),
    [
        (
            result(helpfulness=[0.5]),
            result(Kind.SAFETY, violation=[1.0]),
            {},
            "refusal, the other of safety",
        ),
        (
            result(helpfulness=[0.5]),
            Result(kind=Kind.REFUSAL, about={}, figures={}),
            {},
            "no item",
        ),
        (result(helpfulness=[0.5]), result(full_refusal=[0.0]), {}, "no metric in common"),
        (result(blocked=[1.0]), result(blocked=[0.0]), {}, "no metric in common"),
        (result(helpfulness=GOOD), result(helpfulness=BAD), {"gsm8k": 0.1}, "gsm8k"),
    ],
)
def test_what_cannot_be_compared_is_named(
    before: Result, after: Result, limits: Mapping[str, float], words: str
) -> None:
    with pytest.raises(NotComparable, match=words):
        regress(before, after, limits)


def test_promotion_sees_the_same_change_and_asks_more_of_it(tmp_path: Path) -> None:
    """A result's rows are an evaluation for the registry, and one comparison serves both."""

    def rows(of: Result) -> list[dict[str, object]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        _, path = of.write(folder)
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    chance = random.Random(5)
    old = [chance.random() for _ in range(120)]
    noisy = [min(1.0, max(0.0, value + chance.gauss(-0.01, 0.2))) for value in old]
    before, after = result(helpfulness=old, blocked=old), result(helpfulness=noisy)
    assert {row["metric"] for row in rows(before)} == {"helpfulness"}
    [watched] = regress(before, after).comparisons
    [gated] = decide(rows(before), rows(after), Margins(), [Metric.HELPFULNESS])
    assert (gated.low, gated.high) == watched.paired.worsening_interval
    assert not watched.worse  # nothing is shown
    assert not gated.passes  # and nothing is ruled out
    [same] = decide(rows(before), rows(before), Margins(), [Metric.HELPFULNESS])
    assert same.passes


def test_a_result_survives_its_file_and_other_files_are_refused(tmp_path: Path) -> None:
    written = result(helpfulness=GOOD)
    path, _ = written.write(tmp_path)
    assert Result.read(tmp_path) == Result.read(path) == written
    path.write_text('{"kind": "safety"}', encoding="utf-8")
    with pytest.raises(UnreadableResult, match=r"result\.json is no result file"):
        Result.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="may not have finished"):
        Result.read(tmp_path / "gone.json")
