"""The report: figures of every group, and what they were measured with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import Progress

from flywheel.evaluation.guard.figures import Figures, classification, ranking
from flywheel.evaluation.guard.groups import Group, grouped
from flywheel.evaluation.guard.rows import Kind, Reading
from flywheel.evaluation.guard.scoring import Judged, Models, judge, milliseconds
from flywheel.evaluation.guard.streamed import ESTIMATES, Streamed, play_all
from flywheel.measures.bootstrap import DRAWS, LEVEL, Bootstrap
from guard.policy import Policy
from guard.types import Axis, Stage

Json = dict[str, Any]
_FIGURES = ("auc", "recall", "false_positive_rate", "f1", "pair_accuracy", "ece", "length_baseline")


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. threshold: a text of lower safety is flagged; None for pairs."""

    group: Group
    figures: Figures
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one evaluation found.

    judged: every row with its scores, for plots. milliseconds: of single samples, by kind.
    streamed: the replies through the gate; None when that was not asked for.
    about: further keys of the JSON document, such as the command.
    """

    reading: Reading
    models: Mapping[Axis, str]
    thresholds: Mapping[Stage, float]
    seed: int
    judged: list[Judged]
    results: list[Result]
    milliseconds: Mapping[str, list[float]]
    streamed: list[Streamed] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> Json:
        """The document that docs/evaluation.md describes."""
        streamed = self.streamed
        by_kind = {kind: timing(times) for kind, times in self.milliseconds.items()}
        return {
            "results": [_result(result) for result in self.results],
            "streamed": None if streamed is None else [_streamed(line) for line in streamed],
            "split": self.reading.split,
            "models": {axis.value: name for axis, name in self.models.items()},
            "thresholds": {stage.value: value for stage, value in self.thresholds.items()},
            "milliseconds": {**timing(self.all_times), "by_kind": by_kind},
            "bootstrap": {"level": LEVEL, "draws": DRAWS, "unit": "prompt", "seed": self.seed},
            "files": [count.as_json() for count in self.reading.files],
            **self.about,
        }

    @property
    def all_times(self) -> list[float]:
        """Milliseconds of single samples of every kind."""
        return [time for times in self.milliseconds.values() for time in times]


def evaluate(
    reading: Reading,
    models: Models,
    policy: Policy,
    *,
    streamed: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    about: Mapping[str, str] | None = None,
) -> Report:
    """Ask the guard about every row, and count. Raises GuardBroken when a model fails.

    models: a reward model for each axis that the items need.
    policy: decides what is flagged. streamed: also play each reply through the gate.
    """
    progress = progress or Progress(disable=True)
    judged = judge(reading.items, models, policy, progress)
    played = None
    if streamed:
        played = play_all(judged, models[Axis.SAFETY], policy, seed, progress)
    groups = progress.track(list(grouped(judged)), description="drawing intervals")
    thresholds = {
        Stage.PROMPT: policy.prompt.threshold,
        Stage.RESPONSE: policy.response.threshold,
    }
    return Report(
        reading=reading,
        models={axis: model.model_id for axis, model in models.items()},
        thresholds=thresholds,
        seed=seed,
        judged=judged,
        results=[
            Result(
                group,
                _figures(rows, seed),
                None if group.kind is Kind.PAIR else thresholds[group.kind.stage],
            )
            for group, rows in groups
        ],
        milliseconds=milliseconds(reading.items, models, progress, seed=seed),
        streamed=played,
        about=about or {},
    )


def timing(milliseconds: Sequence[float]) -> Json:
    """Median and 95th percentile, and of how many."""
    median, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return {"median": round(median, 2), "p95": round(p95, 2), "n": len(milliseconds)}


def _figures(rows: Sequence[Judged], seed: int) -> Figures:
    draws = Bootstrap([row.item.prompt for row in rows], seed)
    if rows[0].item.kind is not Kind.PAIR:
        return classification(
            np.array([bool(row.item.positive) for row in rows]),
            np.array([row.risk for row in rows]),
            np.array([bool(row.flagged) for row in rows]),
            draws,
        )
    sides = [row.item.samples for row in rows]
    return ranking(
        np.array([row.scores[0].value - row.scores[1].value for row in rows]),
        np.array([float(len(a.reply or "") - len(b.reply or "")) for a, b in sides]),
        draws,
    )


def _result(result: Result) -> Json:
    return _line(result.group, result.figures, _FIGURES) | {"threshold": result.threshold}


def _streamed(line: Streamed) -> Json:
    return _line(line.group, line.figures, ESTIMATES) | {"blocked": line.blocked}


def _line(group: Group, figures: Figures, names: Sequence[str]) -> Json:
    return {
        "source": group.source,
        "kind": group.kind.value,
        "n": figures.n,
        **{name: _rounded(figures.estimates.get(name)) for name in names},
        "positives": figures.positives,
        "file": group.file,
        "pooled": group.pooled,
        "judge": group.judge.value,
        "intervals": {
            name: None if interval is None else [_rounded(bound) for bound in interval]
            for name, interval in figures.intervals.items()
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
