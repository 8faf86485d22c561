"""What the engine is asked for one chat request."""

from typing import Any

import orjson

from flywheel.registry.versions import BASE
from guard.types import Message
from server.engine import Engine, EngineInfo
from server.errors import InvalidRequest
from server.ghost import Conversation, neutraliser
from server.schema import OURS, ChatRequest
from server.settings import GhostSettings


class EngineRequest:
    """One client's request, ready to be asked of the engine, once or again.

    judged: the conversation as the guard judges it. version, model: of the chat model that
    answers, and its name in the engine; by default the engine's own. Raises InvalidRequest.
    """

    def __init__(
        self,
        request: ChatRequest,
        engine: Engine,
        info: EngineInfo,
        ghost: GhostSettings,
        *,
        version: str = BASE,
        model: str | None = None,
    ) -> None:
        self._neutral = neutraliser(info.special_tokens)
        self._request = request
        self._engine = engine
        self._info = info
        self._ghost = ghost
        self.version = version
        self.model = model or info.model
        self._conversation = Conversation(request.messages, ghost, self._neutral)
        self._options = self._passed_on()

    @property
    def judged(self) -> tuple[Message, ...]:
        return self._conversation.judged

    @property
    def said(self) -> tuple[Message, ...]:
        """What was said, without the instructions."""
        return self._conversation.said

    @property
    def system(self) -> str:
        """The instruction in force: the deployment's and the caller's."""
        return self._conversation.system

    async def body(self, preprompt: str = "") -> dict[str, Any]:
        """The engine's request, its messages fitted to the context. Raises ApiError.

        preprompt: an instruction that comes before all others.
        """
        conversation = self._conversation
        if preprompt:
            conversation = Conversation(
                self._request.messages, self._ghost, self._neutral, preprompt=preprompt
            )
        messages = await conversation.prompt(
            self._info.context,
            self._request.reply_tokens,
            lambda window: self._engine.count_tokens({**self._options, "messages": window}),
            other_bytes=len(orjson.dumps(self._options.get("tools"))),
        )
        return {**self._options, "messages": messages}

    def _passed_on(self) -> dict[str, Any]:
        body: dict[str, Any] = self._request.model_dump(exclude_unset=True, exclude=set(OURS))
        if "tools" in body:
            body["tools"] = self._neutral.deep(body["tools"])
        try:
            orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest(
                f"a value cannot be passed on: {error}", code="invalid_value"
            ) from None
        options = {"include_usage": True, "continuous_usage_stats": True}
        return {**body, "model": self.model, "stream": True, "stream_options": options}
