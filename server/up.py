"""Runs the gateway in this process until it is told to stop, with or without the UI."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn
from fastapi import FastAPI
from rich.console import Console

from flywheel.journal import JournalUnavailable
from guard.types import GuardError
from server.app import create_app
from server.gateway import Gateway
from server.logs import configure_logging
from server.settings import Settings

_AT_A_DESK_S = 5.0
out = Console(stderr=True, highlight=False, soft_wrap=True)


def serve_everything(settings: Settings, *, with_ui: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises OSError when the port is taken; GuardError, JournalUnavailable when a part that is
    needed cannot be opened.
    """
    configure_logging(json=settings.server.log_json)
    listener = _listen(settings)
    host, port = settings.server.host, listener.getsockname()[1]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    app = create_app(settings)
    if with_ui:
        out.print("loading the chat page …")
        _mount_pages(app, url)
    failures = _announce_when_ready(app, url, with_ui=with_ui)
    # An open chat page holds a connection, and whoever sits before it wants to go.
    drain_s = min(_AT_A_DESK_S, settings.server.drain_s) if with_ui else settings.server.drain_s
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(drain_s),
        # Who reuses a connection in the instant in which it is closed loses the request.
        timeout_keep_alive=settings.server.keep_alive_s,
        h11_max_incomplete_event_size=1 << 16,
        server_header=False,
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if failures:
            raise failures[0] from None
        raise
    if not server.started:
        sys.exit(3)


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {host}:{port} ({error.strerror}): stop what is there, "
            "or choose another port with --port"
        ) from error
    return listener


def _mount_pages(app: FastAPI, url: str) -> None:
    """The one place where the gateway meets the UI, which still talks HTTP to it."""
    from ui.app import mount

    mount(app, url)


def _announce_when_ready(app: FastAPI, url: str, *, with_ui: bool) -> list[Exception]:
    """Returns where a failure to start will stand: uvicorn keeps it to itself."""
    inner = app.router.lifespan_context
    failures = list[Exception]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(inner(app))
            except (GuardError, JournalUnavailable) as failure:
                failures.append(failure)
                raise
            announcing = asyncio.create_task(_announce(app.state.gateway, url, with_ui))
            stack.callback(announcing.cancel)
            yield

    app.router.lifespan_context = lifespan
    return failures


async def _announce(gateway: Gateway, url: str, with_ui: bool) -> None:
    page = f"chat page {url}/  ·  " if with_ui else ""
    out.print(f"listening: {page}API {url}/v1  ·  docs {url}/docs  ·  state {url}/readyz")
    await gateway.monitor.first_up()
    where = f"open {url}/ and chat" if with_ui else f"chat at {url}/v1"
    out.print(f"ready: {where} with {gateway.monitor.info.model}. Ctrl-C stops everything.")
