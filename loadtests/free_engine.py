"""An engine that costs nothing: any chat completion is answered with bytes made beforehand.

    python -m loadtests.free_engine --port 9000 --chunks 64

What a gateway in front of it costs is then the gateway's own. The wire is that of vLLM's
OpenAI server: one event, one HTTP chunk and one TCP write per token. Nothing of a request is
looked at but its end and whether it asks for usage.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import uvloop

MODEL = "free"
WORDS = ("time", "and", "tide", "wait", "for", "no", "one", "who", "sits")

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_USAGE = re.compile(rb'"include_usage":\s*true')
_HEADERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def reply(chunks: int) -> str:
    """The text of every reply: `chunks` words."""
    return " ".join(WORDS[at % len(WORDS)] for at in range(chunks))


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-free",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": choices,
        **more,
    }
    return _framed(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")


def _delta(finish_reason: str | None = None, **delta: str) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


def _json(value: Any) -> bytes:
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@dataclass(frozen=True, slots=True)
class Tape:
    """Every answer, rendered once. `plain` and `with_usage`: one item per TCP write."""

    plain: tuple[bytes, ...]
    with_usage: tuple[bytes, ...]
    routes: dict[bytes, bytes]

    @classmethod
    def of(cls, chunks: int) -> "Tape":
        def writes(usage: bool) -> Iterator[bytes]:
            yield _HEADERS
            yield _event(_delta(role="assistant", content=""))
            for at, word in enumerate(reply(chunks).split(" ")):
                yield _event(_delta(content=f" {word}" if at else word))
            yield _event(_delta("stop", content=""))
            if usage:
                count = {"prompt_tokens": 8, "completion_tokens": chunks}
                yield _event([], usage={**count, "total_tokens": chunks + 8})
            yield _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"

        card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vllm"}
        return cls(
            plain=tuple(writes(usage=False)),
            with_usage=tuple(writes(usage=True)),
            routes={
                b"GET /health": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                b"GET /readyz": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                b"GET /version": _json({"version": "free"}),
                b"GET /v1/models": _json(
                    {"object": "list", "data": [{**card, "max_model_len": 4096}]}
                ),
                b"POST /tokenize": _json(
                    {"count": 8, "max_model_len": 4096, "tokens": list(range(8))}
                ),
            },
        )


class _Connection(asyncio.Protocol):
    """One keep-alive connection. Requests are answered one after the other, unpipelined."""

    def __init__(self, tape: Tape, delay: float) -> None:
        self._tape = tape
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or len(rest) < (int(length[1]) if length else 0):
            return
        self._buffer = b""
        if head.startswith(b"POST /v1/chat/completions"):
            usage = _USAGE.search(rest) is not None
            self._write(iter(self._tape.with_usage if usage else self._tape.plain))
        else:
            route = b" ".join(head.split(b" ", 2)[:2])
            self._transport.write(self._tape.routes.get(route, _NOT_FOUND))

    def _write(self, writes: Iterator[bytes]) -> None:
        data = next(writes, None)
        if data is None or self._gone:
            return
        self._transport.write(data)
        # In a turn of the loop of its own: the loop joins writes of the same turn into one.
        if self._delay:
            self._loop.call_later(self._delay, self._write, writes)
        else:
            self._loop.call_soon(self._write, writes)


async def serve(port: int, chunks: int, delay: float) -> None:
    """Serve on 127.0.0.1 until cancelled; `delay` is in seconds, before each chunk."""
    tape = Tape.of(chunks)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(tape, delay), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--chunks", type=int, default=64, help="words in a reply")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before each chunk")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.chunks, options.delay_ms / 1000))


if __name__ == "__main__":
    main()
