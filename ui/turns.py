"""A conversation as the chat page knows it, and as a browser keeps it."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from openai.types.chat import ChatCompletionMessageParam

from ui.gateway import Verdict

# A browser gives one site room for about five million characters.
MOST_CONVERSATIONS = 40
MOST_CHARACTERS = 1_000_000
UNTITLED = "New conversation"
TITLE = 48


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and what became of it.

    instruction: the system prompt that was in force. waiting, problem: notes to the user.
    needs_key: the problem is the API key.
    said: the user's feedback so far, as the API's kinds.
    first_ms, all_ms: until the first text and until the end, as the page saw it.
    """

    question: str
    reply: str = ""
    verdict: Verdict | None = None
    waiting: str = ""
    problem: str = ""
    needs_key: bool = False
    instruction: str = ""
    said: tuple[str, ...] = ()
    first_ms: int | None = None
    all_ms: int | None = None

    @property
    def remembered(self) -> bool:
        """Whether the model is told of this turn later. A blocked one is not part of that."""
        return bool(self.reply) and not (self.verdict and self.verdict.blocked)

    def feedback(self, kind: str) -> "Turn":
        """With one more thing said; of the two thumbs, the later one holds."""
        other = {"thumbs_up": "thumbs_down", "thumbs_down": "thumbs_up"}.get(kind)
        kept = tuple(s for s in self.said if s not in (kind, other))
        return replace(self, said=(*kept, kind))


@dataclass(frozen=True, slots=True)
class Conversation:
    """id: the API's `conversation_id`, by which it can be erased."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    turns: tuple[Turn, ...] = ()

    @property
    def title(self) -> str:
        if not self.turns:
            return UNTITLED
        line = " ".join(self.turns[0].question.split())
        return line if len(line) <= TITLE else f"{line[: TITLE - 1]}…"


def messages(turns: Sequence[Turn], system_prompt: str) -> list[ChatCompletionMessageParam]:
    """The conversation as the API wants it; the last turn is the one to answer.

    An empty instruction is sent too: it takes back the one that the conversation's name pinned.
    """
    told: list[ChatCompletionMessageParam] = [{"role": "system", "content": system_prompt.strip()}]
    for turn in turns[:-1]:
        if turn.remembered:
            told.append({"role": "user", "content": turn.question})
            told.append({"role": "assistant", "content": turn.reply})
    told.append({"role": "user", "content": turns[-1].question})
    return told


def kept(conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """What the browser keeps of them: the newest first, as many as it has room for."""
    found: list[dict[str, Any]] = []
    room = MOST_CHARACTERS
    for conversation in conversations[:MOST_CONVERSATIONS]:
        row = written(conversation)
        room -= len(json.dumps(row))
        if room < 0:
            break
        found.append(row)
    return found


def written(conversation: Conversation) -> dict[str, Any]:
    """As JSON: what is kept, and what a user exports."""
    turns = []
    for turn in conversation.turns:
        row = {**asdict(turn), "waiting": ""}
        if turn.verdict is not None:
            row["verdict"]["flags"] = sorted(turn.verdict.flags)
        turns.append(row)
    return {"id": conversation.id, "title": conversation.title, "turns": turns}


def read(rows: object) -> list[Conversation]:
    """What `kept` gave. What another version kept and this one cannot read is left out."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        try:
            turns = tuple(_turn(turn) for turn in row["turns"])
            found.append(Conversation(str(row["id"]), turns))
        except (KeyError, TypeError, AttributeError):
            continue
    return found


def _turn(row: Mapping[str, Any]) -> Turn:
    known = {f.name: row[f.name] for f in fields(Turn) if f.name in row}
    verdict = known.get("verdict")
    if verdict is not None:
        names = {f.name for f in fields(Verdict)}
        verdict = {k: v for k, v in verdict.items() if k in names}
        verdict = Verdict(**{**verdict, "flags": frozenset(verdict["flags"])})
    return Turn(**{**known, "verdict": verdict, "said": tuple(known.get("said", ()))})
