"""What a client may ask: OpenAI's chat completion request, and vLLM's extras by allowlist."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flywheel.records import GOAL_CHARACTERS, WORDS_CHARACTERS, RedTeam
from server.errors import InvalidRequest

REFUSED_FIELDS: Final = {
    "chat_template": "it would change how the conversation is rendered",
    "chat_template_kwargs": "it would change how the conversation is rendered",
    "documents": "it would add text to the prompt that is not judged",
    "add_generation_prompt": "it would change how the conversation is rendered",
    "continue_final_message": "it would put words in the model's mouth",
    "echo": "it would return text that is not judged",
    "top_logprobs": "it would return tokens that are not judged",
    "prompt_logprobs": "it would return text that is not judged",
    "return_token_ids": "it would return tokens before they are judged",
    "return_tokens_as_token_ids": "it would return tokens that cannot be judged as text",
    "include_stop_str_in_output": "it would return text that is not judged",
    "add_special_tokens": "it would change how the conversation is rendered",
    "mm_processor_kwargs": "only text is served",
    "kv_transfer_params": "it belongs to the deployment",
    "functions": "it is deprecated: use `tools`",
    "function_call": "it is deprecated: use `tool_choice`",
    "audio": "only text is served",
    "modalities": "only text is served",
    "prediction": "it is not supported",
    "web_search_options": "it is not supported",
}
"""Fields of OpenAI or vLLM that are refused by name, and why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Part):
    type: Literal["text"]
    text: str


Content = Annotated[str | list[TextPart], Field()]


class SystemMessage(_Part):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Part):
    role: Literal["user"]
    content: Content
    name: str | None = None


class FunctionCall(_Part):
    name: str
    arguments: str


class ToolCall(_Part):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AssistantMessage(_Part):
    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(_Part):
    role: Literal["tool"]
    content: Content
    tool_call_id: str


ChatMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class StreamOptions(_Part):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(_Part):
    """`POST /v1/chat/completions`. Unknown fields are refused."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    length_penalty: float | None = None
    min_tokens: int | None = Field(None, ge=0, lt=2**31)
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    structured_outputs: dict[str, Any] | None = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation that the client names, so that later turns belong to it."""
        return (self.metadata or {}).get("conversation_id")

    @property
    def red_team(self) -> RedTeam | None:
        """What a red-teamer says of this turn, by the keys of `RED_TEAM`."""
        said = self.metadata or {}
        if "red_team" not in said:
            return None
        return RedTeam(
            session=said["red_team"],
            goal=said.get("red_team_goal"),
            category=said.get("red_team_category"),
            vector=said.get("red_team_vector"),
        )

    @property
    def reply_tokens(self) -> int | None:
        """The longest reply that the client allows, in tokens."""
        return self.max_completion_tokens or self.max_tokens


OURS: Final = frozenset(
    {
        "messages",
        "model",
        "stream",
        "stream_options",
        "metadata",
        "store",
        "service_tier",
        "user",
        "safety_identifier",
        "prompt_cache_key",
    }
)
"""Fields that the gateway answers for itself: they are not handed to the engine."""


RED_TEAM: Final = {
    "red_team": 128,
    "red_team_goal": GOAL_CHARACTERS,
    "red_team_category": WORDS_CHARACTERS,
    "red_team_vector": WORDS_CHARACTERS,
}
"""Keys of `metadata` that make a turn part of a red-team session, and their longest values."""

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read a request body. Raises `InvalidRequest`, which names the parameter at fault."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None
    _check_conversation(request)
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("`stream_options` needs `stream: true`", param="stream_options")
    return request


def text_of(content: str | list[TextPart] | None) -> str:
    """A message's content as one text."""
    if isinstance(content, list):
        return "\n".join(part.text for part in content)
    return content or ""


def _check_conversation(request: ChatRequest) -> None:
    if request.conversation_id is not None and not _NAME.fullmatch(request.conversation_id):
        raise InvalidRequest(
            "`metadata.conversation_id` must be 1 to 128 letters, digits and `.`, `_`, `:`, `-`",
            param="metadata.conversation_id",
            code="invalid_value",
        )
    for key, longest in RED_TEAM.items():
        if not 0 < len((request.metadata or {}).get(key, "-")) <= longest:
            raise InvalidRequest(
                f"`metadata.{key}` must have 1 to {longest} characters",
                param=f"metadata.{key}",
                code="invalid_value",
            )
    for index, message in enumerate(request.messages):
        if message.role == "user" and not text_of(message.content).strip():
            param = f"messages[{index}].content"
            raise InvalidRequest(f"`{param}` is empty", param=param)
    last = request.messages[-1].role
    if last == "assistant":
        raise InvalidRequest(
            "the conversation must end with the user: a final assistant message would put "
            "words in the model's mouth",
            param="messages",
        )
    if last not in ("user", "tool"):
        raise InvalidRequest("the conversation has no user message to answer", param="messages")


def _invalid(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"the body is not valid JSON: {first['msg']}", code="invalid_json")
    param = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        why = REFUSED_FIELDS.get(param)
        reason = f"is refused: {why}" if why else "is not a known parameter"
        return InvalidRequest(f"`{param}` {reason}", param=param, code="unsupported_parameter")
    if not param:
        return InvalidRequest("the body must be a JSON object", code="invalid_json")
    return InvalidRequest(f"`{param}`: {first['msg']}", param=param, code="invalid_value")


_TAGS = frozenset({"system", "developer", "user", "assistant", "tool", "str", "list[TextPart]"})


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not (path.endswith("]") and step in _TAGS) and step not in ("str", "list[TextPart]"):
            path += f".{step}" if path else step
    return path
