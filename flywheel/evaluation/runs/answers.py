"""The append-only file of a run: what was asked for, then one line for each item that is done.

Killed at any moment it holds whole lines and perhaps a torn last one, which is cut off when the
run goes on.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import orjson

ANSWERS_FILE: Final = "answers.jsonl"
Row = dict[str, Any]


class AnotherRun(ValueError):
    """The folder holds a run of something else, or one that is being written right now."""


def kept_rows(folder: Path) -> dict[str, Row]:
    """The rows that a folder holds, by item. Raises OSError."""
    whole = (folder / ANSWERS_FILE).read_bytes()
    lines = [orjson.loads(line) for line in whole[: whole.rfind(b"\n") + 1].split(b"\n") if line]
    return {line["id"]: line["row"] for line in lines[1:]}


class Answers:
    """Answers by item, kept in a folder. Used as a context manager by one process at a time.

    about: everything that the answers depend on; a file that says otherwise is another run's.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._path = folder / ANSWERS_FILE
        self._about: Row = orjson.loads(orjson.dumps(dict(about)))
        self._rows: dict[str, Row] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Raises OSError, AnotherRun."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+b")
        try:
            self._lock(file)
            self._read(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def __getitem__(self, id: str) -> Row:
        return self._rows[id]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, id: str, row: Row) -> None:
        """Keep an item's answer; on disk once this returns."""
        self._write({"id": id, "row": row})
        # As it will be read back, so that a resumed run computes with the very same numbers.
        self._rows[id] = orjson.loads(orjson.dumps(row))

    def _lock(self, file: BinaryIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherRun(f"another run is writing {self._path} right now") from None

    def _read(self, file: BinaryIO) -> None:
        file.seek(0)
        whole = file.read()
        kept = whole.rfind(b"\n") + 1
        file.truncate(kept)
        lines = [orjson.loads(line) for line in whole[:kept].split(b"\n") if line]
        if not lines:
            self._file = file
            self._write({"run": self._about})
            return
        found = lines[0].get("run", {})
        if found != self._about:
            names = sorted(
                name
                for name in found.keys() | self._about.keys()
                if found.get(name) != self._about.get(name)
            )
            raise AnotherRun(
                f"{self._path.parent} holds a run with another {', '.join(names)}: "
                "name another --out, or remove it"
            )
        self._rows = {line["id"]: line["row"] for line in lines[1:]}

    def _write(self, line: Row) -> None:
        assert self._file is not None
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()
        os.fsync(self._file.fileno())
