"""Prompts to sample from: those of an export of the journal, or of labelled sets."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flywheel.training.chat.files import Messages, Row, read_rows
from flywheel.training.chat.stage import StageError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that ends in the user's words.

    adversarial: whether it asks for harm, which decides what its replies are rewarded for.
    """

    messages: tuple[tuple[str, str], ...]
    adversarial: bool
    source: str = ""

    @property
    def key(self) -> str:
        return sha256(repr(self.messages).encode()).hexdigest()[:20]

    @property
    def chat(self) -> Messages:
        return [{"role": role, "content": content} for role, content in self.messages]


def read_prompts(
    paths: Sequence[Path],
    *,
    limit: int | None = None,
    seed: int = 7,
    split: str = "train",
    longest: int = 4000,
) -> list[Prompt]:
    """Distinct prompts in a random order that the seed fixes.

    A row is {"prompt": [messages], "adversarial"}, as `safechat flywheel export --format prompts`
    writes it, or {"prompt": "text", "harmful": 0 or 1}. Rows of another split are never read.
    longest: characters of a conversation. Raises StageError for an empty or unreadable file.
    """
    found: dict[str, Prompt] = {}
    for path in paths:
        rows = [row for row in read_rows(path) if row.get("split", split) == split]
        for row in rows:
            prompt = _prompt(row, path)
            if sum(len(content) for _, content in prompt.messages) <= longest:
                found.setdefault(prompt.key, prompt)
    if not found:
        raise StageError(f"no prompt of the split {split} in {', '.join(map(str, paths))}")
    ordered = list(found.values())
    random.Random(seed).shuffle(ordered)
    return ordered[:limit]


def balanced(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """At most `limit` prompts, sources taking turns, so that no large one drowns the others."""
    by_source: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_source.setdefault(prompt.source, []).append(prompt)
    turns = [list(reversed(group)) for group in by_source.values()]
    chosen: list[Prompt] = []
    while turns and len(chosen) < limit:
        for group in turns:
            if len(chosen) < limit:
                chosen.append(group.pop())
        turns = [group for group in turns if group]
    return chosen


def _prompt(row: Row, path: Path) -> Prompt:
    try:
        said = row["prompt"]
        if isinstance(said, str):
            messages: tuple[tuple[str, str], ...] = (("user", said),)
        else:
            messages = tuple((m["role"], m["content"]) for m in said)
        if not messages or messages[-1][0] != "user":
            raise StageError(f"{path}: a prompt must end in the user's words")
        adversarial = bool(row["adversarial"] if "adversarial" in row else row["harmful"])
    except (KeyError, TypeError) as error:
        raise StageError(
            f"{path}: a row needs `prompt`, and `adversarial` or `harmful`: {error!r} is missing"
        ) from error
    return Prompt(messages, adversarial, str(row.get("source", path.stem)))
