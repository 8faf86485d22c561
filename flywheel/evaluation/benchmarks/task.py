"""What a benchmark is: questions out of a file, and marks for the replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import orjson

from flywheel.evaluation.runs.result import Published


class NoData(ValueError):
    """A benchmark's file is not there, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class Question:
    """id: within all tasks of a run. group: what it is reported by, such as a category.
    key: what the task marks a reply with."""

    id: str
    task: str
    group: str
    messages: tuple[dict[str, str], ...]
    key: Any


@runtime_checkable
class Task(Protocol):
    """One benchmark. scored: whether marking needs the guard's safety of the reply."""

    @property
    def name(self) -> str: ...

    @property
    def scored(self) -> bool: ...

    @property
    def published(self) -> tuple[Published, ...]: ...

    def questions(self, data: Path | None, limit: int | None, seed: int) -> list[Question]:
        """At most `limit` of them, drawn at random. Raises NoData."""
        ...

    def marks(self, question: Question, reply: str, safety: float | None) -> dict[str, float]:
        """Values by metric; none where the reply says nothing about them.

        safety: by the guard, for tasks that need it; None where nothing was written.
        """
        ...

    def unreadable(self, reply: str) -> bool:
        """Whether a reply is not of the form that was asked for."""
        ...


def rows_of(data: Path | None, file: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a benchmark's file. Raises NoData."""
    path = None if data is None else data / file
    if path is None or not path.is_file():
        raise NoData(f"this benchmark reads {file}: name the folder that has it with --data")
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise NoData(f"{path}, line {number}: no JSON: {error.msg}") from None
        if not isinstance(row, dict) or not row.keys() >= set(fields):
            raise NoData(f"{path}, line {number}: a row has the fields {', '.join(fields)}")
        rows.append(row)
    if not rows:
        raise NoData(f"{path}: no rows at all")
    return rows


def drawn(count: int, limit: int | None, seed: int) -> list[int]:
    """Positions of at most `limit` out of `count` rows, drawn at random, in their order."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:limit].tolist())
