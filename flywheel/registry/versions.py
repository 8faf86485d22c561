"""A registry of model versions in a folder: V1, V2, … of each kind, written once.

    ROOT/chat/V2/version.json      parent, settings, data, metrics, files with their hashes
    ROOT/chat/V2/files/            the adapter, or the exported reward model
    ROOT/chat/V2/evaluation.jsonl  one measured value a row, which promotion compares
    ROOT/chat/aliases.json         which version is live, in shadow, and was live before

V0 has no folder: it is what the deployment had before, the engine's own model or the shipped
reward models. A version appears whole or not at all, and is never written again.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

BASE = "V0"
_BLOCK = 1 << 20


class RegistryError(ValueError):
    """The registry cannot do what was asked; the message says why, and what to do."""


class Kind(StrEnum):
    """What a version is a version of."""

    CHAT = "chat"
    SAFETY = "safety"
    HELPFULNESS = "helpfulness"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Entry):
    sha256: str
    bytes: int


class Version(_Entry):
    """The manifest of one version.

    number: counted from 1 within its kind. parent: the version that it was trained from.
    data: what it learnt from, by name, with digests and row counts. metrics: means, for people.
    time: seconds since 1970.
    """

    kind: Kind
    number: int = Field(ge=1)
    parent: str
    time: float
    note: str = ""
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    files: dict[str, FileEntry]

    @property
    def name(self) -> str:
        return f"V{self.number}"


class Registry:
    """Reads and adds versions below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: Kind, name: str) -> Path:
        return self.root / kind / name

    def files(self, kind: Kind, name: str) -> Path:
        """What a server loads."""
        return self.folder(kind, name) / "files"

    def names(self, kind: Kind) -> list[str]:
        """All versions of a kind, the oldest first, V0 not among them."""
        folders = (self.root / kind).glob("V*")
        numbers = sorted(int(f.name[1:]) for f in folders if f.name[1:].isdigit())
        return [f"V{number}" for number in numbers if number]

    def get(self, kind: Kind, name: str) -> Version:
        """The manifest of a version. Raises RegistryError."""
        path = self.folder(kind, name) / "version.json"
        try:
            return Version.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            known = ", ".join(self.names(kind)) or "none"
            raise RegistryError(
                f"there is no {kind} {name} in {self.root}; known: {known}"
            ) from None
        except ValidationError as error:
            raise RegistryError(f"{path} is no manifest of this release: {error}") from error

    def verified(self, kind: Kind, name: str) -> Version:
        """The manifest of a version whose files are what was registered. Raises RegistryError."""
        version = self.get(kind, name)
        found = dict(_hashed(self.files(kind, name)))
        if found != version.files:
            changed = sorted(
                f
                for f in found.keys() | version.files.keys()
                if found.get(f) != version.files.get(f)
            )
            raise RegistryError(
                f"{kind} {name} is not what was registered ({', '.join(changed[:5])}): restore the "
                "files from a backup, or go back to another version"
            )
        return version

    def evaluation(self, kind: Kind, name: str) -> list[dict[str, Any]]:
        """Rows of key, metric and value; none where nothing was measured."""
        path = self.folder(kind, name) / "evaluation.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

    def measure_base(self, kind: Kind, evaluation: Sequence[Mapping[str, Any]]) -> None:
        """Keep what V0 was measured to be. Raises RegistryError where it was measured before."""
        folder = self.folder(kind, BASE)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "evaluation.jsonl"
        if path.exists():
            raise RegistryError(f"{path} is there already: remove it to measure {BASE} anew")
        _write_evaluation(path, evaluation)

    def add(
        self,
        kind: Kind,
        source: Path,
        *,
        parent: str = BASE,
        note: str = "",
        settings: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        evaluation: Sequence[Mapping[str, Any]] = (),
    ) -> Version:
        """Copies the files of `source` into a new version. Raises RegistryError, OSError."""
        if not source.is_dir() or not any(source.iterdir()):
            raise RegistryError(f"{source} is no folder with a model")
        if parent != BASE:
            self.get(kind, parent)
        size = sum(f.stat().st_size for f in source.rglob("*") if f.is_file())
        (self.root / kind).mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.root).free < size:
            raise RegistryError(f"{self.root} has no room for {size / 1e6:.0f} MB more")
        unfinished = Path(tempfile.mkdtemp(prefix=".new.", dir=self.root / kind))
        try:
            shutil.copytree(source, unfinished / "files")
            # The gateway and the engine may run as others than who registers.
            for path in (unfinished, *unfinished.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            _write_evaluation(unfinished / "evaluation.jsonl", evaluation)
            while True:
                version = Version(
                    kind=kind,
                    number=1 + max((int(n[1:]) for n in self.names(kind)), default=0),
                    parent=parent,
                    time=time.time(),
                    note=note,
                    settings=dict(settings or {}),
                    data=dict(data or {}),
                    metrics=dict(metrics or {}),
                    files=dict(_hashed(unfinished / "files")),
                )
                manifest = version.model_dump_json(indent=2) + "\n"
                (unfinished / "version.json").write_text(manifest, encoding="utf-8")
                _settle(unfinished)
                target = self.folder(kind, version.name)
                try:
                    unfinished.rename(target)  # fails where another process was faster
                except OSError:
                    if not target.exists():
                        raise
                    continue
                return version
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write_evaluation(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _hashed(folder: Path) -> Iterator[tuple[str, FileEntry]]:
    for path in sorted(f for f in folder.rglob("*") if f.is_file()):
        total = sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
        entry = FileEntry(sha256=total.hexdigest(), bytes=path.stat().st_size)
        yield path.relative_to(folder).as_posix(), entry


def _settle(folder: Path) -> None:
    """On the disk before the folder takes its name."""
    for path in [*(f for f in folder.rglob("*") if f.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
