"""Plays vLLM's OpenAI server from a script, so that tests choose what the engine does.

    async with ScriptedEngine(Script.words("Hello there.")) as engine:
        ...                                   # talk to engine.url
        assert engine.bodies[0]["stream"]
        await engine.idle()                   # every generation has ended

The script is of `script.py`, the wire that of `vllm_wire.py`. What goes wrong goes wrong in
vLLM's way too: error bodies before the stream, an error event followed by `[DONE]` inside it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.fakes.script import Ending, Script
from tests.fakes.vllm_wire import Body, Wire, error_body, render, word_tokens


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

    @property
    def _wire(self) -> Wire:
        return Wire(self.model, len(self.bodies), self.tokenize)

    async def _answer(self, request: web.Request, body: Body, script: Script) -> web.StreamResponse:
        if not body.get("stream"):
            return web.json_response(self._wire.completion(body, script))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        async for event in _respaced(self._wire.events(body, script), script):
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
