"""A client that leaves, by hand-written receive and send: what no client library lets one time.

The same over real sockets stands in test_failures.py.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from server.app import create_app
from server.engine import VllmEngine
from server.gateway import Gateway
from tests.fakes.gateway import quick_settings
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

BODY = orjson.dumps(
    {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
)
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions",
    "query_string": b"",
    "headers": [],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}


class Client:
    """Sends a body, then leaves when told to, or when it has seen enough messages."""

    def __init__(self, leave_after: int | None = None, body_parts: tuple[bytes, ...] = (BODY,)):
        self.sent: list[dict[str, Any]] = []
        self._parts = list(body_parts)
        self._leave_after = leave_after
        self._gone = asyncio.Event()

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self._leave_after is not None and len(self.sent) >= self._leave_after:
            self._gone.set()
        await asyncio.sleep(0)


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    script = Script.words("a few words and a few more of them " * 40, delay=0.005)
    async with ScriptedEngine(script) as engine:
        yield engine


@pytest.fixture
async def app(engine: ScriptedEngine) -> AsyncIterator[FastAPI]:
    settings = quick_settings()
    async with VllmEngine(engine.url, settings.engine) as client:
        app = create_app(settings, engine=client, guard=scripted_guard())
        async with app.router.lifespan_context(app):
            yield app


def gateway(app: FastAPI) -> Gateway:
    found: Gateway = app.state.gateway
    return found


def outcome(app: FastAPI, name: str) -> float | None:
    registry = gateway(app).metrics.registry
    return registry.get_sample_value("safechat_requests_total", {"outcome": name})


@pytest.mark.parametrize("leave_after", [1, 2, 3])
async def test_leaving_at_any_message_aborts_the_engine_and_frees_the_permit(
    app: FastAPI, engine: ScriptedEngine, leave_after: int
) -> None:
    client = Client(leave_after)
    await app(SCOPE, client.receive, client.send)
    assert gateway(app).limits.in_flight == 0
    await engine.idle()
    assert engine.aborted == 1
    assert outcome(app, "client_gone") == 1


async def test_leaving_before_the_engine_has_answered_aborts_it_too(
    app: FastAPI, engine: ScriptedEngine
) -> None:
    engine.script = Script.words("late", first_delay=1.5)
    client = Client()
    serving = asyncio.create_task(app(SCOPE, client.receive, client.send))
    await asyncio.sleep(0.2)
    client.leave()
    await asyncio.wait_for(serving, 1)
    assert client.sent == []
    await engine.idle()
    assert outcome(app, "client_gone") == 1


async def test_leaving_while_sending_the_body_is_counted(app: FastAPI) -> None:
    client = Client(body_parts=(BODY[:10],))
    client.leave()

    async def receive() -> dict[str, Any]:
        message = await client.receive()
        return message | {"more_body": True} if message["type"] == "http.request" else message

    await app(SCOPE, receive, client.send)
    assert client.sent == []
    assert outcome(app, "client_gone") == 1


async def test_a_client_that_stays_gets_everything(app: FastAPI) -> None:
    client = Client()
    await app(SCOPE, client.receive, client.send)
    assert client.sent[0]["status"] == 200
    assert client.sent[-1] == {
        "type": "http.response.body",
        "body": b"data: [DONE]\n\n",
        "more_body": False,
    }
    assert outcome(app, "completed") == 1


async def test_content_is_in_no_log(
    app: FastAPI, engine: ScriptedEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.script = Script.words("SECRETREPLY is the answer")
    body = BODY.replace(b"Hi", b"SECRETPROMPT")
    client = Client(body_parts=(body,))
    await app(SCOPE, client.receive, client.send)
    engine.script = Script(status=500, error="SECRETERROR")
    client = Client(body_parts=(body,))
    await app(SCOPE, client.receive, client.send)
    logged = "".join(capsys.readouterr())
    assert "turn_id" in logged
    assert "SECRET" not in logged
