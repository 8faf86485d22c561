"""Plays vLLM's OpenAI server from a script, so that tests choose what the engine does.

    async with ScriptedEngine(Script.words("Hello there.")) as engine:
        ...                                   # talk to engine.url
        assert engine.bodies[0]["stream"]
        await engine.idle()                   # every generation has ended

The wire is vLLM's, field by field: a role event per choice, one event per delta, a finish
event, a usage event when asked for, `[DONE]`. What goes wrong goes wrong in vLLM's way too:
error bodies before the stream, an error event followed by `[DONE]` inside it.
"""

import asyncio
import json
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Body = dict[str, Any]
Delta = str | Mapping[str, Any]
Splitter = Callable[[bytes], Iterable[bytes]]

GARBAGE = b'data: {"id": "chatcmpl-\xff\xfe\x00\n\n'
DONE = b"data: [DONE]\n\n"

_ERROR_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "TooManyRequestsError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


class Ending(StrEnum):
    """What follows the deltas."""

    DONE = "done"  # finish event, usage, [DONE]
    NO_DONE = "no_done"  # the same, but the body ends before [DONE]
    CUT = "cut"  # the body ends cleanly after the last delta
    RESET = "reset"  # the connection breaks after the last delta
    STALL = "stall"  # nothing more is ever sent


@dataclass(frozen=True, kw_only=True)
class Script:
    """How the engine answers one request.

    deltas: one sequence of deltas per choice; a str is text, a mapping is sent as the
        delta object itself (tool calls, reasoning). A request for more choices than
        there are sequences starts again from the first.
    finish_reason: as in vLLM, "length" travels with the last delta, any other reason
        in an event of its own with empty content.
    open_delay, first_delay, delay: seconds before the response headers, between them and
        the first event, and between events.
    pause: waited for when half of the events are sent.
    status, error: an answer other than 200; text becomes vLLM's JSON error, bytes are
        sent as they are.
    tail: bytes in place of the finish and usage events (see `GARBAGE`, `error_event`).
    split: cuts each event into the pieces that are written one by one; with
        `split_whole` it cuts the stream as a whole, so that pieces may span events.
    """

    deltas: Sequence[Sequence[Delta]] = (("Hello", " there", "."),)
    finish_reason: str = "stop"
    open_delay: float = 0.0
    first_delay: float = 0.0
    delay: float = 0.0
    pause: asyncio.Event | None = None
    status: int = 200
    error: str | bytes = "The script says so."
    tail: bytes | None = None
    ending: Ending = Ending.DONE
    split: Splitter | None = None
    split_whole: bool = False

    @classmethod
    def words(cls, *texts: str, **how: Any) -> "Script":
        """One choice per text, one delta per word, its leading white space with it."""
        return cls(deltas=tuple(tuple(_words(text)) for text in texts), **how)

    def choice(self, index: int) -> Sequence[Delta]:
        return self.deltas[index % len(self.deltas)]


def _words(text: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(text)):
        if text[at].isspace() and not text[at - 1].isspace():
            yield text[start:at]
            start = at
    yield text[start:]


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def pieces_of(size: int) -> Splitter:
    """Cuts into pieces of `size` bytes, in the middle of characters if need be."""
    return lambda data: (data[at : at + size] for at in range(0, len(data), size))


def tool_call(index: int, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    """A tool-call delta; with a name it opens the call, without one it continues it."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    opening = {} if name is None else {"id": f"chatcmpl-tool-{index}", "type": "function"}
    return {"tool_calls": [{**opening, "index": index, "function": function}]}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(status, "InternalServerError")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def error_event(message: str = "Internal server error", status: int = 500) -> bytes:
    """A failure after the headers, as vLLM sends it (`[DONE]` still follows)."""
    return f"data: {json.dumps(error_body(status, message))}\n\n".encode()


def word_tokens(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) for word in text.split()]


def byte_tokens(text: str) -> list[int]:
    return list(text.encode())


def render(messages: Sequence[Mapping[str, Any]]) -> str:
    """The chat template: each message as `role content`, then the assistant's role."""
    return "".join(f"{m['role']} {m.get('content') or ''}\n" for m in messages) + "assistant"


class ScriptedEngine:
    """An HTTP server on a free port of 127.0.0.1, up between `start` and `stop`.

    script: answers each request that no `enqueue`d script is left for; a callable chooses
        by the request's body.
    bodies, headers: of each chat completion asked for, in order of arrival.
    running, finished, aborted: requests in progress, played to the script's end, and left
        by their client before it.
    healthy: what `/health` says.
    adapters: folders of the LoRA adapters that were loaded, by name; adapter_trouble: loading
        one fails.
    """

    def __init__(
        self,
        script: Script | Callable[[Body], Script] | None = None,
        *,
        model: str = "scripted",
        max_model_len: int = 2048,
        tokenize: Callable[[str], list[int]] = word_tokens,
    ) -> None:
        self.script: Script | Callable[[Body], Script] = script or Script()
        self.model = model
        self.max_model_len = max_model_len
        self.tokenize = tokenize
        self.healthy = True
        self.bodies: list[Body] = []
        self.headers: list[Mapping[str, str]] = []
        self.adapters: dict[str, str] = {}
        self.adapter_trouble = False
        self.running = self.finished = self.aborted = 0
        self._queue: deque[Script] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def enqueue(self, *scripts: Script) -> None:
        """The next requests are answered by these, in order."""
        self._queue.extend(scripts)

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.get("/tokenizer_info", self._tokenizer_info),
                web.post("/tokenize", self._tokenize),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/load_lora_adapter", self._load_adapter),
                web.post("/v1/unload_lora_adapter", self._unload_adapter),
            ]
        )
        # vLLM aborts a generation when its client leaves, even while nothing is sent.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Break every connection; from now on connecting is refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def idle(self, within: float = 2.0) -> None:
        """Wait until no request is in progress, at most `within` seconds. Raises TimeoutError."""
        async with asyncio.timeout(within):
            await self._idle.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "scripted"})

    async def _models(self, request: web.Request) -> web.Response:
        card = {"id": self.model, "object": "model", "created": 0, "owned_by": "vllm"}
        card |= {"root": self.model, "parent": None, "max_model_len": self.max_model_len}
        adapters = [card | {"id": name, "parent": self.model} for name in self.adapters]
        return web.json_response({"object": "list", "data": [card, *adapters]})

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["lora_name"]
        if self.adapter_trouble:
            return web.json_response(error_body(500, "no memory left"), status=500)
        if name in self.adapters:
            message = f"The lora adapter '{name}' has already been loaded."
            return web.json_response(error_body(400, message), status=400)
        self.adapters[name] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        del self.adapters[(await request.json())["lora_name"]]
        return web.Response(text="Success")

    async def _metrics(self, request: web.Request) -> web.Response:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{labels} {float(self.running)}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{labels} 0.0",
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _tokenizer_info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"tokenizer_class": "ScriptedTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
        )

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        tokens = self.tokenize(render(body["messages"]) if "messages" in body else body["prompt"])
        return web.json_response(
            {
                "count": len(tokens),
                "max_model_len": self.max_model_len,
                "tokens": tokens,
                "token_strs": None,
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        script = self._next_script(body)
        self.running += 1
        self._idle.clear()
        try:
            await asyncio.sleep(script.open_delay)
            response = self._refusal(body, script) or await self._answer(request, body, script)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        else:
            self.finished += 1
            return response
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()

    def _next_script(self, body: Body) -> Script:
        if self._queue:
            return self._queue.popleft()
        return self.script(body) if callable(self.script) else self.script

    def _refusal(self, body: Body, script: Script) -> web.Response | None:
        """What vLLM says instead of generating, or None."""
        status, message, param = script.status, script.error, None
        if isinstance(message, bytes):
            return web.Response(status=status, body=message, content_type="text/html")
        used = len(self.tokenize(render(body["messages"])))
        if body.get("model", self.model) not in (self.model, *self.adapters):
            status, message, param = 404, f"The model `{body['model']}` does not exist.", "model"
        elif used >= self.max_model_len:
            message = (
                f"This model's maximum context length is {self.max_model_len} tokens. "
                f"However, your prompt contains {used} input tokens."
            )
            status, param = 400, "input_tokens"
        if status == 200:
            return None
        return web.json_response(error_body(status, message, param), status=status)

    async def _answer(self, request: web.Request, body: Body, script: Script) -> web.StreamResponse:
        if not body.get("stream"):
            return web.json_response(self._completion(body, script))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        async for event in _respaced(self._events(body, script), script):
            for piece in script.split(event) if script.split else (event,):
                await response.write(piece)
                # Hands the loop over, so that pieces leave as separate TCP writes.
                await asyncio.sleep(0)
        if script.ending is Ending.STALL:
            await asyncio.Event().wait()
        if script.ending is Ending.RESET and request.transport is not None:
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    def _events(self, body: Body, script: Script) -> Iterator[bytes]:
        """The whole stream, one event at a time."""
        count = body.get("n") or 1
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        for index in range(count):
            role = {"role": "assistant", "content": ""}
            yield self._event([_choice(index, role)], prompt_token_ids=None, prompt_text=None)
        for index, delta, reason in _interleaved(script, count):
            text = delta if isinstance(delta, str) else None
            content = {"content": text} if isinstance(delta, str) else dict(delta)
            logprobs = _logprobs(body, text) if text and body.get("logprobs") else None
            choice = _choice(index, content, logprobs)
            choice |= {"token_ids": None}
            if reason is not None:
                choice |= {"finish_reason": reason, "stop_reason": None}
            stamp = {} if usage or reason is None else {"system_fingerprint": "scripted"}
            yield self._event([choice], **stamp)
        if script.tail is not None:
            yield script.tail
        elif usage and script.ending in (Ending.DONE, Ending.NO_DONE):
            yield self._event([], usage=self._usage(body, script), system_fingerprint="scripted")
        if script.ending is Ending.DONE:
            yield DONE

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        number = len(self.bodies)
        chunk = {
            "id": f"chatcmpl-{number:016x}",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": self.model,
            "choices": choices,
            **more,
        }
        # vLLM leaves U+2028 and the like unescaped, which line iterators trip over.
        return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()

    def _usage(self, body: Body, script: Script) -> dict[str, int]:
        asked = len(self.tokenize(render(body["messages"])))
        answered = sum(len(script.choice(i)) for i in range(body.get("n") or 1))
        return {
            "prompt_tokens": asked,
            "total_tokens": asked + answered,
            "completion_tokens": answered,
        }

    def _completion(self, body: Body, script: Script) -> dict[str, Any]:
        """The same script, not streamed. Of the deltas only texts are folded."""
        choices = []
        for index in range(body.get("n") or 1):
            text = "".join(d for d in script.choice(index) if isinstance(d, str))
            choice = {"index": index, "message": {"role": "assistant", "content": text}}
            choices.append({**choice, "logprobs": None, "finish_reason": script.finish_reason})
        return {
            "id": f"chatcmpl-{len(self.bodies):016x}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": self.model,
            "choices": choices,
            "usage": self._usage(body, script),
        }


def _choice(
    index: int, delta: Mapping[str, Any], logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _interleaved(script: Script, count: int) -> Iterator[tuple[int, Delta, str | None]]:
    """(choice, delta, finish reason) in the order of a batch that decodes in step."""
    ends = script.tail is None and script.ending in (Ending.DONE, Ending.NO_DONE)
    longest = max(len(script.choice(i)) for i in range(count))
    for step in range(longest + 1):
        for index in range(count):
            deltas = script.choice(index)
            last = step == len(deltas) - 1
            if step < len(deltas):
                with_text = ends and last and script.finish_reason == "length"
                yield index, deltas[step], script.finish_reason if with_text else None
            elif step == len(deltas) and ends and script.finish_reason != "length":
                yield index, "", script.finish_reason


def _logprobs(body: Body, text: str) -> dict[str, Any]:
    token = {"token": text, "logprob": -0.5, "bytes": list(text.encode())}
    top = [token] * int(body.get("top_logprobs") or 0)
    return {"content": [{**token, "top_logprobs": top}]}


async def _respaced(events: Iterator[bytes], script: Script) -> AsyncIterator[bytes]:
    """The events in the script's time; all at once when the split is over the whole."""
    await asyncio.sleep(script.first_delay)
    if script.split_whole:
        yield b"".join(events)
        return
    every = list(events)
    for number, event in enumerate(every):
        if number:
            await asyncio.sleep(script.delay)
        if script.pause is not None and number == len(every) // 2:
            await script.pause.wait()
        yield event
