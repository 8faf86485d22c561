"""A replay's trail on the disk: a line for each turn, so that what was done is never redone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import orjson
from pydantic import TypeAdapter, ValidationError

from flywheel.replay.outlook import LeftOut, Outlook

Found = Outlook | LeftOut
_FOUND: Final[TypeAdapter[Found]] = TypeAdapter(Found)


class Trail:
    """A file that remembers one replay. Its first line says what is replayed.

    with Trail(path, about) as trail:
        for found in trail.earlier(): ...
        trail.add(found)

    Entering raises ValueError for a file of another replay.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._about = orjson.dumps(about, option=orjson.OPT_SORT_KEYS) + b"\n"

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b")
        self._file.seek(0)
        if (first := self._file.readline()) != self._about:
            if first.endswith(b"\n"):
                self._file.close()
                raise ValueError(
                    f"{self._path} is of another replay: name another file, or remove this one"
                )
            self._file.truncate(0)
            self._file.write(self._about)
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def earlier(self) -> Iterator[Found]:
        """What earlier runs found, to be read before anything is added.

        A line that was cut short is dropped. Raises ValueError where a whole one is damaged.
        """
        self._file.seek(whole := len(self._about))
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                yield _FOUND.validate_json(line)
            except ValidationError:
                raise ValueError(f"{self._path} is damaged after byte {whole}") from None
            whole += len(line)
        self._file.truncate(whole)

    def add(self, found: Found) -> None:
        self._file.write(found.model_dump_json().encode() + b"\n")
        self._file.flush()
