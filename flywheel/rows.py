"""How a record is laid out in a store: a row for every turn, its content beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from flywheel.journal import JournalOptions, level_of
from flywheel.opinions import Feedback
from flywheel.records import Content, CorruptRecord, TurnRecord, masked, upgrade
from guard.types import Flag


@dataclass(frozen=True, slots=True)
class Row:
    """One turn, encoded.

    flags: separated by spaces; they grow by feedback, so those in `body` don't count.
    keep_until: when the content goes; None: with the row. content: None when not kept.
    """

    turn_id: str
    key_id: str
    conversation: str
    time: float
    outcome: str
    flags: str
    level: int
    keep_until: float | None
    body: str
    content: str | None


def encode(record: TurnRecord, options: JournalOptions) -> Row:
    """Lay a record out, redacted, with as much content as the options keep."""
    keeps = options.keeps(record)
    content = record.content if keeps or options.grace_s > 0 else None
    if content is not None and options.redact is not None:
        content = _redacted(content, options.redact)
    temporary = content is not None and not keeps
    return Row(
        turn_id=record.turn_id,
        key_id=record.key_id,
        conversation=record.conversation,
        time=record.time,
        outcome=record.outcome.value,
        flags=" ".join(sorted(record.flags)),
        level=level_of(options.priority(record)),
        keep_until=record.time + options.grace_s if temporary else None,
        body=record.without_content().model_dump_json(),
        content=None if content is None else content.model_dump_json(),
    )


def decode(body: str | bytes, flags: str, content: str | bytes | None) -> TurnRecord:
    """Read a row back. Raises CorruptRecord, NewerRecord."""
    try:
        raw: Any = orjson.loads(body)
        if not isinstance(raw, dict):
            raise CorruptRecord("the record is no object")
        record = upgrade({**raw, "flags": flags.split()})
        if content is None:
            return record
        return record.with_content(Content.model_validate_json(content))
    except orjson.JSONDecodeError as error:
        raise CorruptRecord(f"the record is no JSON: {error.msg}") from None
    except ValidationError as error:
        raise CorruptRecord(masked(error)) from None


def with_flag(flags: str, flag: Flag | None) -> str:
    """The flags and one more."""
    return flags if flag is None else " ".join(sorted({*flags.split(), flag.value}))


def redacted(feedback: Feedback, options: JournalOptions) -> Feedback:
    """Feedback as it may be stored."""
    if options.redact is None:
        return feedback
    return feedback.model_copy(update={"text": options.redact(feedback.text)})


def _redacted(content: Content, redact: Callable[[str], str]) -> Content:
    def optional(text: str | None) -> str | None:
        return None if text is None else redact(text)

    return Content(
        goal=optional(content.goal),
        system=optional(content.system),
        messages=tuple(
            message.model_copy(update={"text": redact(message.text)})
            for message in content.messages
        ),
        replies=tuple(map(optional, content.replies)),
        attempts=tuple(map(optional, content.attempts)),
    )
