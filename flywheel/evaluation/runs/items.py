"""What is asked: rows of JSON lines files, each with an id that a run can resume by."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import orjson
from pydantic import BaseModel, Field, ValidationError, model_validator

from flywheel.records import masked

Role = Literal["adversarial", "harmless", "borderline"]
UNNAMED: Final = "unnamed"


class BadItems(ValueError):
    """A file of items cannot be used: empty, unreadable, or one id twice."""


class ChatMessage(BaseModel, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class Item(BaseModel, frozen=True):
    """One conversation to be had.

    history: what was said before, an instruction first. turns: what the user says, one after
    another, each once the one before is answered. role: what is tried with it, where that is
    known. category: kind of harm; vector: kind of attack.
    """

    id: str
    history: tuple[ChatMessage, ...] = ()
    turns: tuple[str, ...] = Field(min_length=1)
    role: Role | None = None
    category: str = UNNAMED
    vector: str = UNNAMED
    source: str = UNNAMED


class _Row(BaseModel):
    """One line. Fields that are not named here are the file's own business."""

    id: str | int | None = None
    prompt: str | None = None
    turns: list[str] | None = None
    messages: list[ChatMessage] | None = None
    role: Role | None = None
    harmful: bool | None = None
    category: str | None = None
    vector: str | None = None
    source: str = UNNAMED

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [self.prompt is not None, bool(self.turns), bool(self.messages)]
        if sum(forms) != 1:
            raise ValueError("a row has one of prompt, turns and messages")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("messages end with the user's")
        if not all(turn.strip() for turn in self._turns):
            raise ValueError("a turn is empty")
        return self

    @property
    def _turns(self) -> list[str]:
        if self.messages:
            return [self.messages[-1].content]
        return self.turns or [self.prompt or ""]

    def item(self) -> Item:
        history, turns = tuple((self.messages or ())[:-1]), tuple(self._turns)
        role = self.role
        if role is None and self.harmful is not None:
            role = "adversarial" if self.harmful else "harmless"
        return Item(
            id=_digest(history, turns) if self.id is None else str(self.id),
            history=history,
            turns=turns,
            role=role,
            category=self.category or UNNAMED,
            vector=self.vector or UNNAMED,
            source=self.source,
        )


def read_items(
    paths: Sequence[Path],
    *,
    splits: Sequence[str] = (),
    sources: Sequence[str] = (),
    roles: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> list[Item]:
    """The rows of some JSON lines files, in their order.

    A row has `prompt`, or `turns` (the user's, asked one after another), or `messages`. splits,
    sources, roles: only rows whose fields say so; a row without a split belongs to every one, and
    one without a role to none. limit: so many of each source, drawn at random.
    Raises OSError, BadItems.
    """
    items: dict[str, Item] = {}
    for path in paths:
        for number, raw in _lines(path):
            if not _wanted(raw, splits, sources):
                continue
            try:
                item = _Row.model_validate(raw).item()
            except ValidationError as error:
                raise BadItems(f"{path}, line {number}: {masked(error)}") from None
            if item.id in items:
                raise BadItems(
                    f"{path}, line {number}: the id {item.id!r} was there before; a row without "
                    "an id is named by its text, so drop the row or give ids"
                )
            items[item.id] = item
    found = [item for item in items.values() if not roles or item.role in roles]
    if not found:
        raise BadItems(_why_empty(paths, splits, sources, roles))
    return found if limit is None else _drawn(found, limit, seed)


def _drawn(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    chance = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.source, []).append(place)
    kept = [place for of in places.values() for place in chance.permutation(of)[:limit].tolist()]
    return [items[place] for place in sorted(kept)]


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Bytes split at line feeds alone: texts hold U+2028 and U+0085.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                raw = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise BadItems(f"{path}, line {number}: no JSON: {error.msg}") from None
            if not isinstance(raw, dict):
                raise BadItems(f"{path}, line {number}: a row is a JSON object")
            yield number, raw


def _wanted(raw: Mapping[str, Any], splits: Sequence[str], sources: Sequence[str]) -> bool:
    if splits and raw.get("split", splits[0]) not in splits:
        return False
    return not sources or raw.get("source") in sources


def _digest(history: Sequence[ChatMessage], turns: Sequence[str]) -> str:
    said = [*((message.role, message.content) for message in history), *(("", t) for t in turns)]
    return sha256(orjson.dumps(said)).hexdigest()[:16]


def _why_empty(
    paths: Sequence[Path], splits: Sequence[str], sources: Sequence[str], roles: Sequence[str]
) -> str:
    if not paths:
        return "name at least one file of prompts"
    filters = [f"the splits {', '.join(splits)}"] if splits else []
    filters += [f"the sources {', '.join(sources)}"] if sources else []
    filters += [f"the roles {', '.join(roles)}"] if roles else []
    names = ", ".join(map(str, paths))
    return f"{names}: no rows" + (f" of {' and '.join(filters)}" if filters else " at all")
