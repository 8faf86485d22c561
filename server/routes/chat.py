"""`POST /v1/chat/completions`: a guarded turn over HTTP."""

import asyncio
from collections.abc import Mapping
from time import time
from typing import Any, Final

import anyio
import orjson
import structlog
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from flywheel.registry.versions import BASE
from server.auth import Caller
from server.engine_request import EngineRequest
from server.errors import (
    ApiError,
    EngineFailed,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    JournalFailed,
    ModelNotFound,
    TooLarge,
)
from server.gateway import Gateway, gateway_of
from server.instructions import with_instruction
from server.ledger import Entry
from server.schema import ChatRequest, parse_chat_request
from server.settings import Scope
from server.sse import DONE, encode
from server.turn import Turn
from server.wire import Envelope, Fold

log = structlog.get_logger(__name__)
router = APIRouter(tags=["chat"])

_REFERENCE: Final = "#/components/schemas/{model}"
_SCHEMA: Final = ChatRequest.model_json_schema(ref_template=_REFERENCE)
COMPONENTS: Final[dict[str, Any]] = {
    **_SCHEMA.pop("$defs"),
    "ChatRequest": _SCHEMA,
}
"""Schemas for the OpenAPI document: the route reads its body by itself."""
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _REFERENCE.format(model="ChatRequest")}}
        },
    }
}


@router.post("/v1/chat/completions", openapi_extra=_BODY, response_class=Response)
async def chat_completions(request: Request) -> Response:
    """Create a chat completion in OpenAI's schema, streamed or not, each choice guarded."""
    return GuardedReply(gateway_of(request), request.headers)


class _ClientGone(Exception):
    """The client left while it was sending."""


class GuardedReply(Response):
    """Serves one turn. Owns its whole life, from the body's first byte to the last event."""

    def __init__(self, gateway: Gateway, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._gateway = gateway
        self._asked_with = headers
        self._started = False
        self._client_gone = False

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        with (
            gateway.ledger.entry() as entry,
            gateway.tracing.request(entry, self._asked_with),
        ):
            try:
                await self._handle(entry, receive, send)
            finally:
                await self._write_down(entry)
            if self._gateway.mirror is not None:
                self._gateway.mirror.offer(entry)

    async def _handle(self, entry: Entry, receive: Receive, send: Send) -> None:
        try:
            authorization = self._asked_with.get("authorization")
            caller = self._gateway.auth.require(authorization, Scope.CHAT)
            entry.caller = caller.id
            body = await _read_body(receive, self._gateway.settings.limits.body_bytes)
        except _ClientGone:
            return
        except ApiError as error:
            await self._fail(entry, error, send)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_gone, receive, tasks.cancel_scope)
            await self._serve(entry, caller, body, send)
            tasks.cancel_scope.cancel()

    async def _write_down(self, entry: Entry) -> None:
        """Record a request that ended otherwise than by its last event."""
        try:
            await self._gateway.recorder.write(entry)
        except JournalFailed:
            log.info("turn_over_unrecorded", turn_id=entry.turn_id)  # it was answered already

    async def _serve(self, entry: Entry, caller: Caller, body: bytes, send: Send) -> None:
        gateway = self._gateway
        try:
            request = parse_chat_request(body)
            entry.streamed = request.stream
            entry.conversation_id = request.conversation_id
            entry.red_team = request.red_team
            await gateway.limits.check_rates(caller)
            async with gateway.limits.permit(caller):
                turn = entry.turn = await self._prepare(entry, caller, request)
                try:
                    await turn.open()
                    if request.stream:
                        await self._stream(entry, turn, request, send)
                    else:
                        await self._answer(entry, turn, request, send)
                finally:
                    turn.close()
                    tokens = turn.usage().get("total_tokens", 0)
                    gateway.limits.spend_tokens(caller, tokens)
        except ApiError as error:
            await self._fail(entry, error, send)
        except asyncio.CancelledError:
            if not self._client_gone:
                stopping = EngineUnavailable("the gateway is shutting down", retry_after_s=1.0)
                with anyio.CancelScope(shield=True):
                    await self._fail(entry, stopping, send)
            raise
        except Exception:
            log.exception("turn_fault", turn_id=entry.turn_id)
            await self._fail(entry, InternalError("the gateway failed; it was logged"), send)

    async def _cancel_when_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client_gone = True
        scope.cancel()

    async def _prepare(self, entry: Entry, caller: Caller, request: ChatRequest) -> Turn:
        gateway = self._gateway
        limits, info = gateway.settings.limits, gateway.monitor.info
        if request.model != info.model:
            raise ModelNotFound(
                f"the model `{request.model}` is not served here; `{info.model}` is",
                param="model",
                code="model_not_found",
            )
        if len(request.messages) > limits.messages:
            raise InvalidRequest(
                f"{len(request.messages)} messages are more than the {limits.messages} allowed",
                param="messages",
                code="too_many_messages",
            )
        if request.n > limits.choices:
            raise InvalidRequest(f"`n` may be at most {limits.choices}", param="n")
        request = await with_instruction(gateway.instructions, caller.id, request)
        versions = gateway.versions
        asked = entry.asked = EngineRequest(
            request,
            gateway.engine,
            info,
            gateway.settings.ghost,
            version=versions.live if versions else BASE,
            model=versions.model(info.model) if versions else None,
        )
        return Turn(
            entry.turn_id,
            asked.judged,
            await asked.body(),
            engine=gateway.engine,
            guard=gateway.guard,
            observer=gateway.observer,
            rewrite=asked.body,
        )

    async def _stream(self, entry: Entry, turn: Turn, request: ChatRequest, send: Send) -> None:
        envelope = Envelope(turn.turn_id, int(time()), request.model)
        await self._start(entry, 200, "text/event-stream; charset=utf-8", send)
        while (releases := await turn.next()) is not None:
            entry.saw_text()
            await _send(send, b"".join(map(envelope.chunk, releases)), more=True)
        if request.stream_options and request.stream_options.include_usage:
            await _send(send, envelope.usage(turn.usage(), turn.fingerprint), more=True)
        entry.outcome = turn.outcome
        await self._gateway.recorder.write(entry)
        await _send(send, DONE, more=False)

    async def _answer(self, entry: Entry, turn: Turn, request: ChatRequest, send: Send) -> None:
        fold = await self._fold(entry, turn, request)
        envelope = Envelope(turn.turn_id, int(time()), request.model)
        body = envelope.completion(fold, turn.usage(), turn.fingerprint)
        entry.outcome = turn.outcome
        await self._gateway.recorder.write(entry)
        await self._start(entry, 200, "application/json", send, length=len(body))
        await _send(send, body, more=False)

    async def _fold(self, entry: Entry, turn: Turn, request: ChatRequest) -> Fold:
        """The whole reply. Nothing of it was sent yet, so it may begin anew."""
        fold = Fold(request.n)
        while True:
            try:
                releases = await turn.next()
            except EngineFailed as failure:
                await turn.start_over(failure)
                fold = Fold(request.n)
                continue
            if releases is None:
                return fold
            entry.saw_text()
            for release in releases:
                fold.add(release)

    async def _fail(self, entry: Entry, error: ApiError, send: Send) -> None:
        """A typed status before the headers, a typed event after them."""
        if not entry.recorded or isinstance(error, JournalFailed):
            entry.outcome = error.outcome
            entry.error = error.type
        await self._write_down(entry)
        body = orjson.dumps(error.body())
        if self._started:
            await _send(send, encode(body) + DONE, more=False)
            return
        headers = dict(error.headers())
        await self._start(entry, error.status, "application/json", send, headers, len(body))
        await _send(send, body, more=False)

    async def _start(
        self,
        entry: Entry,
        status: int,
        content_type: str,
        send: Send,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self._started = True
        entry.status = status
        all_headers = {
            "content-type": content_type,
            "x-safechat-turn-id": entry.turn_id,
            "cache-control": "no-cache",
            **(headers or {}),
        }
        if length is not None:
            all_headers["content-length"] = str(length)
        raw = [(name.encode(), value.encode()) for name, value in all_headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _read_body(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes", code="body_too_large")
        if not message.get("more_body", False):
            return b"".join(parts)
