"""The result file of a run: every figure, what it was measured with, and no text.

It can be published as it is. The texts lie beside it, in `answers.jsonl`.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Self

import orjson
from pydantic import Field, ValidationError

from flywheel.measures.metrics import metric
from flywheel.records import Frozen, masked

RESULT_FILE: Final = "result.json"
ROWS_FILE: Final = "evaluation.jsonl"
SCHEMA_VERSION: Final = 1


class Kind(StrEnum):
    """The evaluations."""

    SAFETY = "safety"
    REFUSAL = "refusal"
    HELPFULNESS = "helpfulness"
    BENCHMARKS = "benchmarks"
    REDTEAM = "redteam"


class UnreadableResult(ValueError):
    """A file is no result of ours, or a newer release wrote it."""


class Figure(Frozen):
    """A mean over `n` values, with its 95 % interval; None where nothing can be said."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=0)

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


class Values(Frozen):
    """What was measured of one item, by metric.

    group: the prompt that it comes from; items of one prompt are drawn together.
    """

    group: str
    values: Mapping[str, float] = {}


class Curve(Frozen):
    """Two shares in [0, 1] as a threshold moves, one entry a threshold.

    The axes are named `x_words` and `y_words`.
    """

    title: str
    x_words: str
    y_words: str
    thresholds: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]


class Published(Frozen):
    """A figure that others have published, to stand beside ours."""

    what: str
    model: str
    value: float
    source: str


class Result(Frozen):
    """One finished run.

    about: what was asked and by what it was judged: addresses, models, sampling, seed, files.
    figures: over all items, by metric. groups: by axis (such as `category`), group and metric.
    counts: what could not be counted among the figures, such as failed items.
    measures: further numbers without an interval. notes: what a reader must know.
    timing: the only part that differs between two runs of the same thing.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Kind
    about: Mapping[str, Any]
    figures: Mapping[str, Figure]
    groups: Mapping[str, Mapping[str, Mapping[str, Figure]]] = {}
    counts: Mapping[str, int] = {}
    measures: Mapping[str, float | None] = {}
    curves: tuple[Curve, ...] = ()
    published: tuple[Published, ...] = ()
    notes: tuple[str, ...] = ()
    items: Mapping[str, Values] = {}
    timing: Mapping[str, float | None] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """A result file, or the one in a run's folder. Raises OSError, UnreadableResult."""
        file = path / RESULT_FILE if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"there is no result {file}: the run may not have finished")
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise UnreadableResult(f"{file} is no result file: {masked(error)}") from None

    def write(self, folder: Path) -> list[Path]:
        """Write it into a run's folder, and its values a row each beside it. Raises OSError.

        Returns where. The rows (key, metric, value) are what the registry of versions takes as
        an evaluation; they leave out metrics without a better direction.
        """
        paths = [folder / RESULT_FILE, folder / ROWS_FILE]
        paths[0].write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        paths[1].write_bytes(b"".join(self._rows()))
        return paths

    def _rows(self) -> Iterator[bytes]:
        for key, item in self.items.items():
            for name, value in item.values.items():
                if metric(name).higher_is_better is not None:
                    row = {"key": key, "metric": name, "value": value}
                    yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
