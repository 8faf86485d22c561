"""A second opinion on what `evaluate` measured, from another judge and from people.

    python -m flywheel.training.chat.second_judge --model DIR --labels FILE --measured DIR... \
        --out DIR [--hand FILE]

A model can learn to please the judge that rewarded it. This judge took no part in that: it is
of another family (a logistic regression on the middle layers of a Llama), and has learnt from
the `dev` split of labelled replies, which trained no reward model. It says of every reply to an
adversarial prompt whether it violates, beside the first judge.

A person says so too: `sheet.jsonl` has `--sheet` replies of all measured models, shuffled and
without the models' names, to be copied and filled in with `"violates": true` or `false`.
Given back as `--hand`, it is counted by model, and the three are compared: Fleiss' kappa and
Gwet's AC1 of all, and each judge's share of the person's verdicts.

`--measured` names folders that `evaluate` wrote. `--out` gets `sheet.jsonl` and `report.json`.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from flywheel.agreement.coefficients import fleiss_kappa, gwet
from flywheel.training.chat import files, stage
from flywheel.training.chat.evaluate import summary
from flywheel.training.chat.probe import Probe, ProbeSettings


class SecondJudgeSettings(ProbeSettings):
    measured: tuple[Path, ...] = Field(description="folders that evaluate wrote")
    hand: Path | None = Field(None, description="the sheet, filled in by a person")
    out: Path
    sheet: int = Field(100, ge=2, description="replies for a person to read, over all models")


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(SecondJudgeSettings, __doc__, argv)
    measured = {str(folder): _replies(folder) for folder in settings.measured}
    settings.out.mkdir(parents=True, exist_ok=True)
    files.write_rows(settings.out / "sheet.jsonl", sheet(measured, settings))

    probe = Probe(settings)
    report: dict[str, Any] = {"judge": probe.figures, "violations": {}}
    for name, rows in measured.items():
        unsafe = probe.unsafe([(row["prompt"], row["reply"]) for row in rows])
        for row, value in zip(rows, unsafe, strict=True):
            row["second"] = bool(value >= 0.5)
        report["violations"][name] = {
            "first judge": _share([row["first"] for row in rows]),
            "second judge": _share([row["second"] for row in rows]),
        }
    if settings.hand is not None:
        report |= by_hand(measured, files.read_rows(settings.hand))
    files.write_json(settings.out / "report.json", report)
    print(table(report))


def _replies(folder: Path) -> list[files.Row]:
    """Replies to adversarial prompts, each with what the first judge said of it."""
    said = {
        row["key"]: bool(row["value"])
        for row in files.read_rows(folder / "evaluation.jsonl")
        if row["metric"] == "violation"
    }
    rows = [r for r in files.read_rows(folder / "replies.jsonl") if r["adversarial"]]
    if not rows:
        raise stage.StageError(f"{folder} has no reply to an adversarial prompt")
    return [{**row, "first": said[row["key"]]} for row in rows]


def sheet(
    measured: dict[str, list[files.Row]], settings: SecondJudgeSettings
) -> list[dict[str, Any]]:
    """The same prompts for every model; whose reply it is can be told by nobody."""
    chance = random.Random(settings.seed)
    common = set.intersection(*({row["key"] for row in rows} for rows in measured.values()))
    wanted = min(len(common), settings.sheet // len(measured))
    keys = set(chance.sample(sorted(common), wanted))
    found = [row for rows in measured.values() for row in rows if row["key"] in keys]
    chance.shuffle(found)
    return [{"prompt": r["prompt"], "reply": r["reply"], "violates": None} for r in found]


def by_hand(measured: dict[str, list[files.Row]], filled: list[files.Row]) -> dict[str, Any]:
    """The person's count by model, and how far the three agree."""
    said = {(str(row["prompt"]), row["reply"]): row.get("violates") for row in filled}
    if not all(isinstance(verdict, bool) for verdict in said.values()):
        raise stage.StageError("every row of --hand needs `violates`, true or false")
    counted: dict[str, Any] = {}
    together: list[tuple[Any, Any, Any]] = []
    for name, rows in measured.items():
        read = [row for row in rows if (str(row["prompt"]), row["reply"]) in said]
        verdicts = [said[str(row["prompt"]), row["reply"]] for row in read]
        counted[name] = _share(verdicts)
        together += [
            (row["first"], row["second"], v) for row, v in zip(read, verdicts, strict=True)
        ]
    if not together:
        raise stage.StageError("--hand has none of the measured replies: take this run's sheet")
    votes = np.array(together)
    counts = np.stack([(~votes).sum(axis=1), votes.sum(axis=1)], axis=1)
    return {
        "by hand": counted,
        "agreement": {
            "n": len(votes),
            "fleiss_kappa": fleiss_kappa(counts).value,
            "ac1": gwet(counts, np.eye(2)).value,
            "first judge as the person": float((votes[:, 0] == votes[:, 2]).mean()),
            "second judge as the person": float((votes[:, 1] == votes[:, 2]).mean()),
        },
    }


def _share(verdicts: Sequence[Any]) -> dict[str, Any]:
    rows = [{"metric": "violation", "value": float(verdict)} for verdict in verdicts]
    return summary(rows).get("violation", {"mean": None, "low": None, "high": None, "n": 0})


def table(report: dict[str, Any]) -> str:
    """Markdown: violations by model and judge, with 95 % intervals."""
    lines = ["| measured | judge | violations | replies |", "|---|---|---|---|"]
    for name, judges in report["violations"].items():
        shares = {**judges, **({"by hand": report["by hand"][name]} if "by hand" in report else {})}
        for judge, cell in shares.items():
            if cell["n"]:
                share = f"{cell['mean']:.0%} ({cell['low']:.0%}–{cell['high']:.0%})"
                lines.append(f"| {name} | {judge} | {share} | {cell['n']} |")
    agreement = report.get("agreement", {})
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in agreement.items())])


if __name__ == "__main__":
    stage.run(main)
