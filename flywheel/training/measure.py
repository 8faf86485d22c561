"""Measures an exported model: python -m flywheel.training.measure --model DIR --split test

Every row of the split is scored by the served graph, not by the trained network. Intervals
are 95 % bootstrap intervals over prompts, since replies to one prompt are alike.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import f1_score, roc_auc_score

from flywheel.training.data import Pair, Row, conversation, rows, user
from flywheel.training.helpfulness_mix import on_policy
from guard.reward.calibration import Floats, expected_calibration_error
from guard.reward.cascade import Cascade, read_doubt
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Axis, Sample

Figures = dict[str, Any]
Judge = EmbeddedRewardModel | Cascade
Scored = tuple[str, str, float, float]  # source, prompt, 1.0 if bad, score
Ranked = tuple[str, str, float, float]  # source, prompt, 1.0 if ranked well, 1.0 if longer
DRAWS = 1000
# The openers of red-teaming dialogues are mostly labelled by where they were found.
NOISY = {"anthropic-red-team"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="exported model folder")
    parser.add_argument("--second", type=Path, help="second judge, exported: measure both as one")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--replies", type=Path, help="a small model's, for pairs with them too")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    first = EmbeddedRewardModel(options.model, options.threads)
    model: Judge = first
    if options.second:
        second = EmbeddedRewardModel(options.second, options.threads)
        model = Cascade(first, second, read_doubt(options.model / "model.json"))
    figures: Figures = {"model": model.model_id, "split": options.split}
    if model.axis is Axis.SAFETY:
        figures["prompts"] = by_source(_prompts(model, options.data, options.split))
        figures["toxicity"] = by_source(_toxicity(model, options.data, options.split))
        figures["replies"] = by_source(_replies(model, options.data, options.split))
        figures["pairs"] = _pairs(model, options.data / "safety_pairs.jsonl", options.split)
    else:
        figures["pairs"] = _pairs(model, options.data / "helpful_pairs.jsonl", options.split)
        if options.replies:
            pairs = on_policy(options.replies, options.data, options.split, random.Random(7))
            figures["on policy"] = _judged([_side_by_side(model, pair) for pair in pairs])
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    Console(width=120).print(_table(figures))


def _values(model: Judge, samples: list[Sample], what: str) -> list[float]:
    scores = [model.score([s])[0] for s in track(samples, f"scoring {what}", update_period=5)]
    if isinstance(model, Cascade):
        asked = sum(score.model == model.model_id for score in scores) / len(scores)
        print(f"{what}: the second judge was asked about {asked:.1%}")
    return [score.value for score in scores]


def _prompts(model: Judge, data: Path, split: str) -> list[Scored]:
    table = rows(data / "prompt_harm.jsonl", split)
    values = _values(model, [Sample(user(r["prompt"])) for r in table], "prompts")
    return [
        (r["source"], r["prompt"], float(r["harmful"]), v)
        for r, v in zip(table, values, strict=True)
    ]


def _toxicity(model: Judge, data: Path, split: str) -> list[Scored]:
    table = rows(data / "toxicity.jsonl", split)
    values = _values(model, [Sample(user(r["text"])) for r in table], "toxicity")
    return [
        (r["source"], r["text"], float(r["toxic"]), v) for r, v in zip(table, values, strict=True)
    ]


def _replies(model: Judge, data: Path, split: str) -> list[Scored]:
    table = rows(data / "safety_labels.jsonl", split)
    samples = [Sample(conversation(r["messages"]), r["response"], whole=True) for r in table]
    values = _values(model, samples, "replies")
    return [
        (r["source"], str(r["messages"]), float(r["unsafe"]), v)
        for r, v in zip(table, values, strict=True)
    ]


def by_source(scored: list[Scored]) -> Figures:
    """Figures of each source, of all, and of all but the noisily labelled ones."""
    groups: dict[str, list[Scored]] = defaultdict(list)
    for row in scored:
        groups[row[0]].append(row)
        groups["all"].append(row)
        if row[0] not in NOISY:
            groups["all but noisy"].append(row)
    return {name: _figures(groups[name]) for name in sorted(groups)}


def _figures(scored: list[Scored]) -> Figures:
    bad = np.array([row[2] for row in scored])
    value = np.array([row[3] for row in scored])
    group = np.unique([row[1] for row in scored], return_inverse=True)[1]
    found: Figures = {"n": len(scored), "bad": int(bad.sum())}
    flagged = (value < 0.5).astype(float)
    if bad.any():
        found["recall"] = _interval(lambda i: _mean(flagged[i][bad[i] == 1]), group)
    if not bad.all():
        found["fpr"] = _interval(lambda i: _mean(flagged[i][bad[i] == 0]), group)
    if 0 < bad.sum() < len(bad):
        found["auc"] = _interval(lambda i: _auc(bad[i], -value[i]), group)
        found["f1"] = round(float(f1_score(bad, flagged)), 3)
        found["ece"] = round(expected_calibration_error(value, 1 - bad), 3)
        cut = np.quantile(value[bad == 0], 0.05)
        found["recall_at_fpr_5"] = round(float((value[bad == 1] < cut).mean()), 3)
    return found


def _pairs(model: Judge, path: Path, split: str) -> Figures:
    """The people's pairs in one file."""
    table = track(rows(path, split), "scoring pairs", update_period=5)
    return _judged([(r["source"], str(r["messages"]), *_ranked(model, r)) for r in table])


def _side_by_side(model: Judge, pair: Pair) -> Ranked:
    chosen, rejected = (score.reward for score in model.score([pair.chosen, pair.rejected]))
    gap = len(pair.chosen.reply or "") - len(pair.rejected.reply or "")
    asked = str(pair.chosen.conversation)
    return pair.source, asked, float(np.heaviside(chosen - rejected, 0.5)), float(gap > 0)


def _judged(ranked: list[Ranked]) -> Figures:
    """Share of pairs ranked as people did, and that of always choosing the longer reply."""
    groups: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for source, asked, *won in ranked:
        for name in (source, "all"):
            groups[name].append((asked, won[0], won[1]))
    found = {}
    for name in sorted(groups):
        group = np.unique([g[0] for g in groups[name]], return_inverse=True)[1]
        right = np.array([g[1] for g in groups[name]])
        longer = np.array([g[2] for g in groups[name]])
        found[name] = {
            "n": len(right),
            "accuracy": _interval(lambda i, a=right: _mean(a[i]), group),  # type: ignore[misc]
            "longer": round(float(longer.mean()), 3),
            "gain": _interval(lambda i, a=right - longer: _mean(a[i]), group),  # type: ignore[misc]
        }
    return found


def _ranked(model: Judge, row: Row) -> tuple[float, float]:
    asked = conversation(row["messages"])
    sides = [Sample(asked, row[side], whole=True) for side in ("chosen", "rejected")]
    chosen, rejected = (score.reward for score in model.score(sides))
    gap = len(row["chosen"]) - len(row["rejected"])
    return float(np.heaviside(chosen - rejected, 0.5)), float(np.heaviside(gap, 0.5))


def _interval(
    statistic: Callable[[np.ndarray[Any, Any]], float], group: np.ndarray[Any, Any]
) -> list[float]:
    """[value, low, high]: 95 % bootstrap over groups of rows."""
    chance = np.random.default_rng(0)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    draws = []
    for _ in range(DRAWS):
        chosen = chance.integers(0, len(members), len(members))
        draws.append(statistic(np.concatenate([members[g] for g in chosen])))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    value = statistic(np.arange(len(group)))
    return [round(float(x), 3) for x in (value, low, high)]


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _auc(bad: Floats, score: Floats) -> float:
    return float(roc_auc_score(bad, score)) if 0 < bad.sum() < len(bad) else float("nan")


def _table(figures: Figures) -> Table:
    table = Table(title=f"{figures['model']} on {figures['split']}")
    columns = [
        *[
            "n",
            "bad",
            "auc",
            "recall",
            "fpr",
            "f1",
            "ece",
            "recall_at_fpr_5",
            "accuracy",
            "longer",
            "gain",
        ]
    ]
    for column in ("", *columns):
        table.add_column(column)
    for kind in ("prompts", "toxicity", "replies", "pairs", "on policy"):
        for source, row in figures.get(kind, {}).items():
            table.add_row(f"{kind}: {source}", *(_shown(row.get(c, "")) for c in columns))
    return table


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"{value[0]} ({value[1]}..{value[2]})"
    return str(value)


if __name__ == "__main__":
    main()
