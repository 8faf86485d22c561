"""An async client of vLLM's OpenAI server: the gateway's only way to a model.

`Engine` is the seam: tests may script one. Its errors are `server.errors`, translated
here: a 4xx passes on with vLLM's reason, anything else is masked and logged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import orjson
import structlog

from server.affinity import SESSION_HEADER, session_of
from server.errors import (
    ApiError,
    EngineBroken,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    TooLarge,
)
from server.settings import EngineSettings
from server.sse import SseDecoder

log = structlog.get_logger(__name__)

Json = dict[str, Any]
KEY_REFUSED = "engine_key_refused"
_RETRY_AFTER_S = 5.0
_PAUSES_S = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine serves. context: longest prompt and reply together, in tokens."""

    model: str
    context: int
    special_tokens: tuple[str, ...] = ()
    version: str = "unknown"


class EngineStream(Protocol):
    """Chunks of one chat completion, parsed. Closing it aborts the generation."""

    def __aiter__(self) -> AsyncIterator[Json]: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """What the gateway needs of an engine. Every method may raise an `ApiError`."""

    async def info(self) -> EngineInfo: ...

    async def open(self, body: Json) -> EngineStream:
        """Start a streamed chat completion; returns once the engine has accepted it."""
        ...

    async def count_tokens(self, body: Json) -> int:
        """Tokens of a completion request's messages and tools, in the model's own template."""
        ...

    async def healthy(self) -> bool: ...


class VllmStream:
    """The streamed answer of vLLM. Ends at `[DONE]`; an earlier end is an error."""

    def __init__(self, response: aiohttp.ClientResponse, settings: EngineSettings) -> None:
        self._response = response
        self._settings = settings

    def close(self) -> None:
        self._response.close()

    async def __aiter__(self) -> AsyncIterator[Json]:
        decoder = SseDecoder()
        timeout_s = self._settings.first_chunk_timeout_s
        while data := await self._read(timeout_s):
            timeout_s = self._settings.chunk_timeout_s
            for payload in self._events(decoder, data):
                if payload == b"[DONE]":
                    await self._drain()
                    return
                yield self._parse(payload)
        raise EngineBroken("the engine broke off its answer")

    async def _read(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._response.content.readany()
        except TimeoutError:
            raise EngineTimeout(f"the engine was silent for {timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            log.warning("engine_stream_broken", error=repr(error))
            raise EngineBroken("the engine broke off its answer") from error

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection can be used again."""
        while await self._read(self._settings.chunk_timeout_s):
            pass

    @staticmethod
    def _events(decoder: SseDecoder, data: bytes) -> list[bytes]:
        try:
            return list(decoder.feed(data))
        except ValueError as error:
            raise EngineBroken("the engine sent an oversized event") from error

    @staticmethod
    def _parse(payload: bytes) -> Json:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            log.warning("engine_stream_corrupt", error=repr(error))
            raise EngineBroken("the engine sent something that is not JSON") from error
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
            raise _stream_error(chunk)
        return chunk


class VllmEngine:
    """vLLM's server at one base URL. Open and close it as an async context manager.

    trace: headers that carry the trace of the request at hand.
    """

    def __init__(
        self,
        url: str,
        settings: EngineSettings,
        *,
        trace: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.url = url
        self._settings = settings
        self._trace = trace
        headers = {}
        if settings.api_key is not None:
            headers["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._headers = headers

    async def __aenter__(self) -> Self:
        # A proxy's environment variables must never lead conversations out of the house.
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.connect_timeout_s, sock_read=None
            ),
            json_serialize=lambda value: orjson.dumps(value).decode(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def healthy(self) -> bool:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                async with self._session.get(self.url + self._settings.health_path) as response:
                    return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def info(self) -> EngineInfo:
        served = (await self._json("GET", "/v1/models"))["data"][0]
        version = await self._json("GET", "/version", missing={})
        tokenizer = await self._json("GET", "/tokenizer_info", missing={})
        return EngineInfo(
            model=served["id"],
            context=served["max_model_len"],
            special_tokens=special_tokens(tokenizer),
            version=str(version.get("version", "unknown")),
        )

    async def count_tokens(self, body: Json) -> int:
        rendered: Json = {k: body[k] for k in ("model", "messages", "tools") if k in body}
        rendered["add_generation_prompt"] = True
        session = {SESSION_HEADER: session_of(body)}
        for pause_s in _PAUSES_S:
            # A router goes on asking an engine that has just died until it has noticed.
            try:
                return await self._count(rendered, session)
            except (EngineBroken, EngineUnavailable):
                await asyncio.sleep(pause_s)
        return await self._count(rendered, session)

    async def _count(self, body: Json, headers: Mapping[str, str]) -> int:
        return int((await self._json("POST", "/tokenize", body, headers=headers))["count"])

    async def served(self) -> set[str]:
        """The model's name, and those of its adapters."""
        return {model["id"] for model in (await self._json("GET", "/v1/models"))["data"]}

    async def load_adapter(self, name: str, folder: str) -> None:
        """Load a LoRA adapter from a folder that the engine can read. Raises ApiError."""
        body = {"lora_name": name, "lora_path": folder}
        await self._body(await self._request("POST", "/v1/load_lora_adapter", body))

    async def unload_adapter(self, name: str) -> None:
        body = {"lora_name": name}
        await self._body(await self._request("POST", "/v1/unload_lora_adapter", body))

    async def open(self, body: Json) -> VllmStream:
        headers = {SESSION_HEADER: session_of(body), **self._trace()}
        response = await self._request("POST", "/v1/chat/completions", body, headers)
        return VllmStream(response, self._settings)

    async def _json(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        missing: Json | None = None,
    ) -> Json:
        """A JSON answer; `missing` stands in for an endpoint that this engine lacks."""
        try:
            response = await self._request(method, path, body, headers)
        except InvalidRequest:
            if missing is None:
                raise
            return missing
        try:
            answer = orjson.loads(await self._body(response))
        except orjson.JSONDecodeError as error:
            if missing is None:
                raise EngineBroken(f"the engine's answer to {path} is not JSON") from error
            return missing
        return answer if isinstance(answer, dict) else {}

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        timeout_s = self._settings.chunk_timeout_s
        try:
            async with asyncio.timeout(timeout_s), response:
                return await response.read()
        except TimeoutError:
            raise EngineTimeout(f"the engine was silent for {timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise EngineBroken("the engine broke off its answer") from error

    async def _request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        timeout_s = self._settings.first_chunk_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._session.request(
                    method, self.url + path, json=body, headers=headers
                )
                if response.status == 200:
                    return response
            raise _translate(response.status, await self._body(response))
        except aiohttp.ClientError as error:  # its connect timeouts are TimeoutErrors too
            log.warning("engine_unreachable", error=repr(error))
            raise EngineUnavailable(
                "the engine is not running, or still starting", retry_after_s=_RETRY_AFTER_S
            ) from error
        except TimeoutError:
            raise EngineTimeout(f"the engine did not answer within {timeout_s:g} s") from None


def special_tokens(info: Json) -> tuple[str, ...]:
    """Texts that the tokenizer reads as special tokens. Versions differ in their shape."""
    added = list((info.get("added_tokens_decoder") or {}).values())
    named = [value for key, value in info.items() if key.endswith("_token")]
    texts = [t.get("content") if isinstance(t, dict) else t for t in [*added, *named]]
    return tuple(sorted({t for t in texts if isinstance(t, str) and t and not t.isspace()}))


def _stream_error(chunk: object) -> ApiError:
    """What an event that is no chunk means: vLLM reports late errors inside the stream."""
    error = chunk.get("error") if isinstance(chunk, dict) else None
    if isinstance(error, dict) and error.get("code") == 400:
        return InvalidRequest(str(error.get("message")), code="engine_refused")
    code = error.get("code") if isinstance(error, dict) else None
    log.warning("engine_stream_error", code=code)
    return EngineBroken("the engine failed while answering")


def _translate(status: int, body: bytes) -> ApiError:
    """What the engine's HTTP error means for our client.

    The engine's words may repeat the client's: they go to the client, never into a log.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = {}
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or "the engine refused the request")
    if status == 413:
        return TooLarge(message)
    if status in (400, 404, 422):
        too_long = error.get("param") == "input_tokens"
        code = "context_length_exceeded" if too_long else "engine_refused"
        param = "messages" if too_long else error.get("param")
        return InvalidRequest(message, param=param, code=code)
    log.warning("engine_error", status=status)
    if status in (401, 403):
        return EngineBroken("the engine wants another key", code=KEY_REFUSED)
    if status in (429, 503):
        return EngineUnavailable("the engine is overloaded", retry_after_s=_RETRY_AFTER_S)
    return EngineBroken("the engine failed")
