"""From a conversation to token ids, and to which of them are learnt.

A row with `prompt` and `completion` is learnt on the completion alone: for Ghost Attention that
is the last reply, so that the loss is zero on every token of earlier turns (Llama 2, §3.3). A
row with `messages` is learnt on all replies, and never on the user's words (§3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.training.chat.files import Messages, Row
from flywheel.training.chat.stage import StageError

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """ids, labels: of one length; a label is the id where it is learnt, -100 elsewhere."""

    ids: list[int]
    labels: list[int]

    @property
    def learnt(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def encode(tokenizer: Any, row: Row) -> Encoded:
    """One row of TRL's conversational formats. Raises StageError for any other."""
    messages, first = _messages(row)
    whole = render(tokenizer, messages)
    spans = []
    for index in range(first, len(messages)):
        if messages[index]["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:index], reply=True)
        after = render(tokenizer, messages[: index + 1])
        if not (after.startswith(before) and whole.startswith(after.rstrip())):
            raise StageError(
                "the chat template writes a turn otherwise when more follows, so replies cannot "
                "be told from prompts: use a template that only appends"
            )
        spans.append((len(before), len(after)))
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = found["input_ids"]
    labels = [
        token if any(start <= at < end for start, end in spans) else IGNORED
        for token, (at, _) in zip(ids, found["offset_mapping"], strict=True)
    ]
    return Encoded(ids, labels)


def render(tokenizer: Any, messages: Sequence[dict[str, str]], *, reply: bool = False) -> str:
    """The conversation in the model's own format; `reply`: up to where a reply begins."""
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=reply
    )
    return text


def _messages(row: Row) -> tuple[Messages, int]:
    """The whole conversation, and the first message that may be learnt."""
    try:
        if "completion" in row:
            prompt, completion = list(row["prompt"]), list(row["completion"])
            if not completion or any(m["role"] != "assistant" for m in completion):
                raise StageError("a completion must be the assistant's words")
            messages, first = prompt + completion, len(prompt)
        else:
            messages, first = list(row["messages"]), 0
        if not any(m["role"] == "assistant" and m["content"].strip() for m in messages[first:]):
            raise StageError("a row has no reply to learn")
    except (KeyError, TypeError, AttributeError) as error:
        raise StageError(
            "a row needs `prompt` and `completion`, or `messages`, each a list of "
            f'{{"role", "content"}}: {error!r}'
        ) from error
    return messages, first
