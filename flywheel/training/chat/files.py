"""Files of the stages: JSON lines that survive a kill, and folders that appear whole.

A stage that is killed leaves at most one broken last line behind, and a folder under a hidden
name. Given again, it goes on after the last whole line.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from flywheel.training.chat.stage import Settings, StageError

# Settings that change how fast or where a run goes, and not what comes of it.
INCIDENTAL = frozenset({"out", "url", "at_once", "threads", "timeout_s", "save_every"})

Row = dict[str, Any]
Messages = list[dict[str, str]]


def read_rows(path: Path, *, tail: bool = False) -> list[Row]:
    """All rows of a JSON lines file. Raises StageError that names the line.

    tail: a last line without its end is left out instead: its writer was killed.
    """
    if not path.is_file():
        raise StageError(f"there is no file {path}")
    data = path.read_bytes()
    lines = data.split(b"\n")  # not splitlines(): texts may hold U+2028
    if tail and lines[-1]:
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise StageError(f"{path}, line {number} is not JSON: mend or remove it") from error
        if not isinstance(row, dict):
            raise StageError(f"{path}, line {number} is no JSON object")
        found.append(row)
    return found


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes a file that appears whole or not at all; how many rows it has."""
    count = 0
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        _settle(file)
    return count


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that appears whole or not at all."""
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")
        _settle(file)


class Log:
    """Rows with a `key`, appended one by one; those written before a kill are there again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = read_rows(path, tail=True) if path.is_file() else []
        self.rows = {row["key"]: row for row in whole}
        if path.is_file():
            data = path.read_bytes()
            if not data.endswith(b"\n"):
                os.truncate(path, data.rfind(b"\n") + 1)
        self._path = path

    def add(self, row: Row) -> None:
        """On the disk before it returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            _settle(file)
        self.rows[row["key"]] = row


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name when all went well.

    Raises StageError where the name is taken: nothing is ever overwritten.
    """
    if path.exists():
        raise StageError(f"{path} is there already and stays as it is: name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield unfinished
        # Weights are private to their owner as written, but the engine may run as someone else.
        for item in (unfinished, *unfinished.rglob("*")):
            item.chmod(0o755 if item.is_dir() else 0o644)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def begin(out: Path, settings: Settings, inputs: Sequence[Path]) -> None:
    """Notes what a run was asked, and refuses to go on with another run's leftovers."""
    asked = {
        "settings": json.loads(settings.model_dump_json(exclude=set(INCIDENTAL))),
        "inputs": {str(path): digest(path) for path in inputs if path.is_file()},
    }
    note = out / "run.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        if before != asked:
            old = before["settings"]
            changed = [name for name, value in asked["settings"].items() if old.get(name) != value]
            what = ", ".join(changed) or "the input files"
            raise StageError(
                f"{out} holds a run with other settings ({what} differ): give the same ones to "
                "go on with it, or name another folder"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, asked)


def need_space(folder: Path, bytes_needed: int) -> None:
    """Raises StageError where a disk has less than `bytes_needed` left."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise StageError(
            f"{folder} has {free / 1e9:.1f} GB left and the run writes up to "
            f"{bytes_needed / 1e9:.1f} GB: free some space, or name a folder on another disk"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    total = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _settle(file: Any) -> None:
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.EINVAL:  # a pipe or a device has nothing to settle
            raise
