"""Labelled rows, read from JSON lines files of four shapes.

A file that people collected over years has broken lines and foreign rows in it. They are
counted and told, and the rest goes on; only when nothing is left is that an error.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, Field

from guard.types import Axis, Message, Sample, Stage


class Kind(StrEnum):
    """What a row asks of the guard.

    prompt: a user's request, harmful or not.
    text: any text, toxic or not, read as if a user had sent it.
    reply: a model's reply to a conversation, unsafe or not.
    pair: two replies to one conversation, of which people preferred one.
    """

    PROMPT = "prompt"
    TEXT = "text"
    REPLY = "reply"
    PAIR = "pair"

    @property
    def stage(self) -> Stage:
        return Stage.PROMPT if self in (Kind.PROMPT, Kind.TEXT) else Stage.RESPONSE


@dataclass(frozen=True, slots=True)
class Item:
    """One row, as the guard is asked about it.

    samples: what is scored; of a pair the chosen reply, then the rejected one.
    positive: whether it is harmful; None for a pair.
    """

    kind: Kind
    axis: Axis
    source: str
    file: str
    samples: tuple[Sample, ...]
    positive: bool | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What rows must share to count as alike: the conversation before the reply."""
        return self.samples[0].conversation


class NothingToEvaluate(ValueError):
    """No row is left to evaluate: no file has one of this split, or of a known shape."""


@dataclass(slots=True)
class FileCount:
    """What became of one file's lines. first_unreadable: a line number, from 1."""

    file: str
    taken: int = 0
    other_split: Counter[str] = field(default_factory=Counter)
    other_shape: int = 0
    unreadable: int = 0
    first_unreadable: int | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "file": self.file,
            "taken": self.taken,
            "other_split": dict(self.other_split),
            "other_shape": self.other_shape,
            "unreadable": self.unreadable,
        }

    def notes(self) -> Iterator[str]:
        """What a person should know of this file."""
        if self.unreadable:
            where = f"the first is line {self.first_unreadable}"
            yield f"{self.file}: {self.unreadable} unreadable lines left out, {where}"
        if self.other_shape:
            yield f"{self.file}: {self.other_shape} rows of another shape left out"
        if not (self.taken or self.unreadable or self.other_shape):
            splits = ", ".join(sorted(self.other_split))
            yield f"{self.file}: {f'only rows of the splits {splits}' if splits else 'empty'}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The items of one split, and what was left out."""

    split: str
    items: list[Item]
    files: list[FileCount]


class _Turn(BaseModel):
    role: str
    content: str


class _Row(BaseModel, ABC):
    source: str = "unnamed"

    @abstractmethod
    def item(self, file: str) -> Item:
        """What the guard is asked about it. file: where it stands."""


class _PromptRow(_Row):
    prompt: str
    harmful: bool

    def item(self, file: str) -> Item:
        sample = Sample((Message("user", self.prompt),))
        return Item(Kind.PROMPT, Axis.SAFETY, self.source, file, (sample,), self.harmful)


class _TextRow(_Row):
    text: str
    toxic: bool

    def item(self, file: str) -> Item:
        sample = Sample((Message("user", self.text),))
        return Item(Kind.TEXT, Axis.SAFETY, self.source, file, (sample,), self.toxic)


class _ConversationRow(_Row):
    messages: list[_Turn] = Field(min_length=1)

    @property
    def conversation(self) -> tuple[Message, ...]:
        return tuple(Message(m.role, m.content) for m in self.messages)


class _ReplyRow(_ConversationRow):
    response: str
    unsafe: bool

    def item(self, file: str) -> Item:
        # Not a `whole` sample: the gateway has every word of a reply looked at for safety.
        sample = Sample(self.conversation, self.response)
        return Item(Kind.REPLY, Axis.SAFETY, self.source, file, (sample,), self.unsafe)


class _PairRow(_ConversationRow):
    chosen: str
    rejected: str

    def item(self, file: str) -> Item:
        named = f"{Path(file).name} {self.source}"
        safety = "safety" in named or "harmless" in named
        axis = Axis.SAFETY if safety else Axis.HELPFULNESS
        sides = tuple(
            Sample(self.conversation, reply, whole=axis is Axis.HELPFULNESS)
            for reply in (self.chosen, self.rejected)
        )
        return Item(Kind.PAIR, axis, self.source, file, sides)


# Which fields make which shape.
_SHAPES: tuple[tuple[frozenset[str], type[_Row]], ...] = (
    (frozenset({"prompt", "harmful"}), _PromptRow),
    (frozenset({"text", "toxic"}), _TextRow),
    (frozenset({"messages", "response", "unsafe"}), _ReplyRow),
    (frozenset({"messages", "chosen", "rejected"}), _PairRow),
)


def read(
    paths: Sequence[Path],
    split: str,
    *,
    note: Callable[[str], None] = lambda text: None,
) -> Reading:
    """The rows of `split`; a row without a split belongs to every one.

    paths: JSON lines files; a folder stands for the `*.jsonl` in it.
    note: told, in words, of everything that is left out for another reason than its split.
    Raises OSError when a file cannot be read, and NothingToEvaluate when no row is left.
    """
    files = list(_files(paths))
    items: list[Item] = []
    counts: list[FileCount] = []
    for name, path in _named(files).items():
        count = FileCount(name)
        items.extend(_items(path, split, count))
        counts.append(count)
        for text in count.notes():
            note(text)
    if not items:
        raise NothingToEvaluate(_why_nothing(split, counts))
    return Reading(split, items, counts)


def limited(reading: Reading, limit: int, seed: int) -> Reading:
    """At most `limit` items of each source of each file, drawn at random, in their order."""
    items = reading.items
    chance = np.random.default_rng(seed)
    members: dict[tuple[str, str, Kind], list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault((item.file, item.source, item.kind), []).append(index)
    kept = [
        index
        for indices in members.values()
        for index in chance.permutation(indices)[:limit].tolist()
    ]
    return replace(reading, items=[items[index] for index in sorted(kept)])


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.jsonl"))
            if not found:
                raise FileNotFoundError(f"the folder {path} holds no *.jsonl")
            yield from found
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"there is no file {path}")


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Each file once, by its name, or by its path where two have the same name."""
    once = {path.resolve(): path for path in files}.values()
    names = Counter(path.name for path in once)
    return {path.name if names[path.name] == 1 else str(path): path for path in once}


def _items(path: Path, split: str, count: FileCount) -> Iterator[Item]:
    # Bytes split at line feeds alone: texts hold U+2028 and U+0085.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                item = _item(line, split, count)
            except ValueError:
                count.unreadable += 1
                count.first_unreadable = count.first_unreadable or number
                continue
            if item is not None:
                count.taken += 1
                yield item


def _item(line: bytes, split: str, count: FileCount) -> Item | None:
    """The item of a line, or None for a row that is none of ours. Raises ValueError."""
    row: Any = orjson.loads(line)
    if not isinstance(row, dict):
        raise ValueError("a row is a JSON object")
    if (found := row.get("split", split)) != split:
        count.other_split[str(found)] += 1
        return None
    shape = next((shape for fields, shape in _SHAPES if fields <= row.keys()), None)
    if shape is None:
        count.other_shape += 1
        return None
    return shape.model_validate(row).item(count.file)


def _why_nothing(split: str, counts: Sequence[FileCount]) -> str:
    splits = sorted({name for count in counts for name in count.other_split})
    if splits:
        return f"no row of the split {split!r}: there are {', '.join(splits)}"
    if not any(count.unreadable or count.other_shape for count in counts):
        return f"{', '.join(count.file for count in counts)}: no rows at all"
    return (
        "no row that can be evaluated: a row needs prompt and harmful, text and toxic, "
        "messages, response and unsafe, or messages, chosen and rejected"
    )
