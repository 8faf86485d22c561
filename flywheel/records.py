"""What the flywheel remembers of a turn. What people say of it stands in `opinions`.

A record's text (system prompt, messages, replies) can be parted from the rest:
`without_content` is the row that is kept for every turn, `content` what is kept for some,
and `with_content` joins them.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
)

from guard.hazards import Hazard
from guard.types import Flag, RefusalKind, Verdict

SCHEMA_VERSION: Final = 1
GOAL_CHARACTERS: Final = 500
WORDS_CHARACTERS: Final = 64

Id = Annotated[str, Field(min_length=1, max_length=256)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
EpochSeconds = Annotated[float, Field(ge=0, description="seconds since 1970-01-01 UTC")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Flagged(Frozen):
    flags: frozenset[Flag] = frozenset()

    @field_serializer("flags")
    def _sorted(self, flags: frozenset[Flag]) -> list[Flag]:
        return sorted(flags)


class Outcome(StrEnum):
    """How a request ended. Each request ends in exactly one of these."""

    COMPLETED = "completed"
    BLOCKED_PROMPT = "blocked_prompt"
    BLOCKED_RESPONSE = "blocked_response"
    CLIENT_GONE = "client_gone"
    ENGINE_FAILED = "engine_failed"
    GUARD_FAILED = "guard_failed"
    REJECTED = "rejected"


class TurnAction(StrEnum):
    """What the policy did about the turn."""

    NONE = "none"
    BLOCK = "block"
    STEER = "steer"
    RECOVER = "recover"
    BEST_OF = "best_of"


class AttemptKind(StrEnum):
    """Where a reply came from: the model as asked, or one of the policy's other ways."""

    ORIGINAL = "original"
    STEER = "steer"
    RECOVER = "recover"
    SAMPLE = "sample"


class RefusalSource(StrEnum):
    """Who refused."""

    MODEL = "model"
    GUARD = "guard"


class EngineInfo(Frozen):
    model: str
    version: str | None = None


class RecordedMessage(Frozen):
    """One message, its content flattened to the text that was judged."""

    role: str
    text: str


class PromptRecord(_Flagged):
    """What the guard said of the conversation before the reply."""

    safety: Probability | None = None
    verdict: Verdict = Verdict.ALLOW
    hazard: Hazard | None = None


class ChoiceRecord(_Flagged):
    """One reply as the model wrote it, and what the guard said of it.

    reply: all that was generated, shown or not; None when content is not kept.
    refusal_probability: of `refusal`, the likeliest kind of answer.
    shown_before_block: characters that left before a block, all of them judged safe then.
    """

    index: int = Field(ge=0)
    reply: str | None = None
    finish_reason: str | None = None
    verdict: Verdict = Verdict.ALLOW
    safety: Probability | None = None
    helpfulness: Probability | None = None
    refusal: RefusalKind | None = None
    refusal_probability: Probability | None = None
    hazard: Hazard | None = None
    shown_before_block: int = Field(0, ge=0)


class Attempt(Frozen):
    """One of several replies to the same prompt; together they make preference pairs.

    index: of the choice that it was made for. reward: combined, raw and unbounded.
    chosen: whether it is what the client got.
    """

    index: int = Field(0, ge=0)
    kind: AttemptKind
    reply: str | None = None
    safety: Probability | None = None
    helpfulness: Probability | None = None
    reward: float | None = None
    chosen: bool = False


class Timings(Frozen):
    """Seconds. first_token_s: to the first released text; guard_wait_s: held for verdicts."""

    seconds: Seconds = 0.0
    first_token_s: Seconds | None = None
    guard_wait_s: Seconds = 0.0


class TokenUsage(Frozen):
    """Tokens as the engine counts them."""

    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class RedTeam(Frozen):
    """What somebody tried with a turn who attacks the system on its makers' behalf.

    session: one sitting. goal: what the reply should give away; None when content is not kept.
    category: kind of harm; vector: kind of attack; both in the red-teamer's own words.
    """

    session: Id
    goal: str | None = Field(None, max_length=GOAL_CHARACTERS)
    category: str | None = Field(None, max_length=WORDS_CHARACTERS)
    vector: str | None = Field(None, max_length=WORDS_CHARACTERS)


class Content(Frozen):
    """The text of a turn, and nothing else of it. Replies stand in the record's order."""

    goal: str | None = None
    system: str | None = None
    messages: tuple[RecordedMessage, ...] = ()
    replies: tuple[str | None, ...] = ()
    attempts: tuple[str | None, ...] = ()


class TurnRecord(_Flagged):
    """All that is known of one request once it has ended.

    conversation_id: as the client named it. key_id: of the API key, never the key itself;
    what a key made belongs to it. messages: without the system prompt; None when content is
    not kept. flags: of prompt and choices, and those that feedback raised later.
    error: the stable type of what went wrong, never its text.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    turn_id: Id
    conversation_id: Id | None = None
    time: EpochSeconds
    key_id: Id
    engine: EngineInfo | None = None
    guard_models: tuple[str, ...] = ()
    system: str | None = None
    messages: tuple[RecordedMessage, ...] | None = None
    prompt: PromptRecord = PromptRecord()
    choices: tuple[ChoiceRecord, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome
    action: TurnAction = TurnAction.NONE
    refusal_source: RefusalSource | None = None
    timings: Timings = Timings()
    usage: TokenUsage = TokenUsage()
    error: str | None = None
    streamed: bool = False
    red_team: RedTeam | None = None

    @property
    def conversation(self) -> str:
        """What is erased together: the conversation, or a turn that belongs to none."""
        return self.conversation_id or self.turn_id

    @property
    def content(self) -> Content | None:
        """The text of the turn; None when it is not kept."""
        if self.messages is None:
            return None
        return Content(
            goal=self.red_team and self.red_team.goal,
            system=self.system,
            messages=self.messages,
            replies=tuple(choice.reply for choice in self.choices),
            attempts=tuple(attempt.reply for attempt in self.attempts),
        )

    def without_content(self) -> Self:
        """The same turn without a word of what was said."""
        nothing = Content(
            replies=(None,) * len(self.choices), attempts=(None,) * len(self.attempts)
        )
        return self._saying(nothing, None)

    def with_content(self, content: Content) -> Self:
        """The same turn with its text. Raises CorruptRecord if it is another turn's."""
        same = len(content.replies) == len(self.choices)
        if not same or len(content.attempts) != len(self.attempts):
            raise CorruptRecord("the content has another number of replies than its turn")
        return self._saying(content, content.messages)

    def _saying(self, content: Content, messages: tuple[RecordedMessage, ...] | None) -> Self:
        tried = self.red_team and self.red_team.model_copy(update={"goal": content.goal})
        return self.model_copy(
            update={
                "system": content.system,
                "messages": messages,
                "choices": _with_replies(self.choices, content.replies),
                "attempts": _with_replies(self.attempts, content.attempts),
                "red_team": tried,
            }
        )


_Replied = TypeVar("_Replied", ChoiceRecord, Attempt)


def _with_replies(
    items: tuple[_Replied, ...], replies: tuple[str | None, ...]
) -> tuple[_Replied, ...]:
    pairs = zip(items, replies, strict=True)
    return tuple(item.model_copy(update={"reply": reply}) for item, reply in pairs)


class RecordError(ValueError):
    """A stored record cannot be read.

    RecordError
    ├── CorruptRecord  it is not what its version says it should be
    └── NewerRecord    a newer release wrote it; this one leaves it alone
    """


class CorruptRecord(RecordError): ...


class NewerRecord(RecordError): ...


Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: Final[Mapping[int, Migration]] = MappingProxyType({})
"""What turns a record of one version into one of the next, by the version it starts from."""


def upgrade(raw: Mapping[str, Any], migrations: Mapping[int, Migration] = MIGRATIONS) -> TurnRecord:
    """Read a record of any known version. Raises CorruptRecord, NewerRecord."""
    record = dict(raw)
    version = record.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise CorruptRecord("the record says no version")
    if version > SCHEMA_VERSION:
        raise NewerRecord(f"version {version} is newer than {SCHEMA_VERSION}")
    while version < SCHEMA_VERSION:
        if version not in migrations:
            raise CorruptRecord(f"there never was a version {version}")
        record = migrations[version](record)
        version += 1
        record["schema_version"] = version
    try:
        return TurnRecord.model_validate(record)
    except ValidationError as error:
        raise CorruptRecord(masked(error)) from None


def masked(error: ValidationError) -> str:
    """Where and why, without the text of a conversation."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
