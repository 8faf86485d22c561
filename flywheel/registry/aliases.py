"""Which version is live, in shadow, or was live before: one small file for each kind.

Every change replaces the file as a whole, so a reader sees the old state or the new one, and
adds a line to `history.jsonl`. One lock keeps writers apart.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flywheel.registry.versions import BASE, Kind, Registry, RegistryError


class Aliases(BaseModel):
    """previous: what `roll_back` returns to. shadow: answers beside live, shown to nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    live: str = BASE
    previous: str = BASE
    shadow: str | None = None


def read(registry: Registry, kind: Kind) -> Aliases:
    """Raises pydantic's ValidationError for a file that is no longer one of ours."""
    path = registry.root / kind / "aliases.json"
    return Aliases.model_validate_json(path.read_bytes()) if path.is_file() else Aliases()


def to_shadow(registry: Registry, kind: Kind, name: str) -> Aliases:
    """Let a version answer beside the live one. Raises RegistryError."""
    registry.verified(kind, name)
    with _changing(registry, kind) as now:
        if now.live == name:
            raise RegistryError(f"{kind} {name} is live already")
        return _write(registry, kind, Aliases(live=now.live, previous=now.previous, shadow=name))


def go_live(registry: Registry, kind: Kind, name: str) -> Aliases:
    """Switch over. Raises RegistryError."""
    if name != BASE:
        registry.verified(kind, name)
    with _changing(registry, kind) as now:
        if now.live == name:
            return now
        shadow = None if now.shadow == name else now.shadow
        return _write(registry, kind, Aliases(live=name, previous=now.live, shadow=shadow))


def roll_back(registry: Registry, kind: Kind) -> Aliases:
    """Return to the version that was live before, in one step. Raises RegistryError."""
    with _changing(registry, kind) as now:
        if now.previous == now.live:
            raise RegistryError(f"no other {kind} version was live before {now.live}")
        if now.previous != BASE:
            registry.verified(kind, now.previous)
        return _write(registry, kind, Aliases(live=now.previous, previous=now.live))


@contextmanager
def _changing(registry: Registry, kind: Kind) -> Iterator[Aliases]:
    folder = registry.root / kind
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read(registry, kind)


def _write(registry: Registry, kind: Kind, aliases: Aliases) -> Aliases:
    folder = registry.root / kind
    temporary = folder / f".aliases.{os.getpid()}"
    _put(temporary, aliases.model_dump_json(indent=2) + "\n", "w")
    temporary.replace(folder / "aliases.json")
    line = json.dumps({"time": time.time(), **aliases.model_dump()})
    _put(folder / "history.jsonl", line + "\n", "a")
    return aliases


def _put(path: Path, text: str, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
