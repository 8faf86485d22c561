"""What a card is made from: result files of runs, and the JSON of `safechat eval guard`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from flywheel.evaluation.runs.result import RESULT_FILE, Kind, Result, UnreadableResult
from flywheel.records import masked


class GuardLine(BaseModel, frozen=True):
    """One row of the guard's table. Figures are shares in [0, 1], None where undefined."""

    source: str
    kind: str
    n: int
    pooled: bool
    auc: float | None = None
    recall: float | None = None
    false_positive_rate: float | None = None
    pair_accuracy: float | None = None
    intervals: Mapping[str, tuple[float, float] | None] = {}


class GuardFigures(BaseModel, frozen=True):
    """What `safechat eval guard --json` prints. thresholds: by stage, as the policy has them."""

    results: Sequence[GuardLine]
    models: Mapping[str, str]
    thresholds: Mapping[str, float]
    split: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to report. results: in the order of the evaluations."""

    results: tuple[Result, ...]
    guard: GuardFigures | None

    def of(self, kind: Kind) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.kind is kind)

    @property
    def models(self) -> list[str]:
        """The models asked, each once."""
        return _once(str(result.about.get("model", "unnamed")) for result in self.results)

    @property
    def guard_models(self) -> list[str]:
        """The guard models that scored, as name@version."""
        scored = [name for result in self.results for name in result.about.get("guard_models", ())]
        return _once([*(self.guard.models.values() if self.guard else ()), *scored])


def read_findings(paths: Sequence[Path]) -> Findings:
    """Read run folders, result files, and figures of the guard, told apart by what is in them.

    Raises OSError, UnreadableResult.
    """
    if not paths:
        raise UnreadableResult("name at least one run's folder or result file")
    results, guard = [], None
    for path in paths:
        file = path / RESULT_FILE if path.is_dir() else path
        if file.is_file() and _is_guard(file):
            guard = _guard(file)
        else:
            results.append(Result.read(path))
    order = list(Kind)
    return Findings(tuple(sorted(results, key=lambda result: order.index(result.kind))), guard)


def _is_guard(file: Path) -> bool:
    try:
        raw: Any = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError:
        return False
    return isinstance(raw, dict) and {"results", "thresholds"} <= raw.keys()


def _guard(file: Path) -> GuardFigures:
    try:
        return GuardFigures.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UnreadableResult(f"{file} holds no figures of the guard: {masked(error)}") from None


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
