"""A service of OpenAI's chat API and of nothing else: no tokenizer, no context length."""

import json
from collections.abc import Sequence
from typing import Any, Self

from aiohttp import web

_FIELDS = {"model", "messages", "temperature", "max_tokens", "stream", "stream_options"}


class PlainChatApi:
    """Says `reply` to whoever has the `key`. busy: how often it first answers 429.

    What OpenAI's API does not know is refused, as OpenAI does.
    """

    def __init__(
        self, reply: str, *, models: Sequence[str] = ("plain",), key: str = "", busy: int = 0
    ) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._reply = reply
        self._models = models
        self._key = key
        self._busy = busy

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._checked])
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return _refusal(401, "Incorrect API key provided.")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _list(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": m} for m in self._models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._busy:
            self._busy -= 1
            return _refusal(429, "Rate limit reached.")
        unknown = body.keys() - _FIELDS | body["stream_options"].keys() - {"include_usage"}
        if unknown:
            return _refusal(400, f"Unrecognized request argument supplied: {min(unknown)}")
        self.bodies.append(body)
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for delta, finish in (({"role": "assistant"}, None), ({"content": self._reply}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            await answer.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        await answer.write(b"data: [DONE]\n\n")
        return answer


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)
