"""The wire of vLLM's OpenAI server, field by field, for what a script says.

A role event per choice, one event per delta, a finish event, a usage event when asked for,
`[DONE]`. Failures have vLLM's bodies, and inside a stream an event that `[DONE]` still follows.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.script import Delta, Ending, Script

Body = dict[str, Any]

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


@dataclass(frozen=True, slots=True)
class Wire:
    """What the server answers to its request of this number, of which `tokenize` counts tokens."""

    model: str
    number: int
    tokenize: Callable[[str], list[int]]

    def events(self, body: Body, script: Script) -> Iterator[bytes]:
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
        chunk = {
            "id": f"chatcmpl-{self.number:016x}",
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

    def completion(self, body: Body, script: Script) -> dict[str, Any]:
        """The same script, not streamed. Of the deltas only texts are folded."""
        choices = []
        for index in range(body.get("n") or 1):
            text = "".join(d for d in script.choice(index) if isinstance(d, str))
            choice = {"index": index, "message": {"role": "assistant", "content": text}}
            choices.append({**choice, "logprobs": None, "finish_reason": script.finish_reason})
        return {
            "id": f"chatcmpl-{self.number:016x}",
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
