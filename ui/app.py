"""All pages as one Gradio app, and how it is put at the root of a FastAPI app."""

import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.components import Navbar
from gradio.routes import INTERNAL_ROUTES
from starlette.datastructures import MutableHeaders
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui import chat, operations, review
from ui.gateway import Gateway
from ui.look import HEAD, THEME

# Model output is untrusted. Whatever Markdown or HTML in it slips through the sanitiser, the
# browser loads nothing from elsewhere. Gradio's own scripts need 'unsafe-inline' and -eval.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' blob: data:",
        "media-src 'self' blob: data:",
        "object-src 'none'",
        "frame-src 'none'",
        "frame-ancestors 'self'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)


class SecurityHeaders:
    """ASGI middleware: the browser's own protection, on every answer of the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = CONTENT_SECURITY_POLICY
                headers["referrer-policy"] = "no-referrer"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, with_headers)


class Pages(Mount):
    """A mount of Gradio's app that takes only Gradio's own paths.

    A plain mount at `/` takes every path that is left, so that an unknown path or a wrong
    method of the API would be answered by Gradio instead of the API.
    """

    def __init__(self, app: ASGIApp, pages: Iterable[str]) -> None:
        super().__init__("/", app)
        self._own = frozenset(INTERNAL_ROUTES).union(pages)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
        own = path.lstrip("/").split("/")[0] in self._own
        return super().matches(scope) if own else (Match.NONE, {})


def build(gateway: Gateway) -> gr.Blocks:
    """The pages, as clients of one gateway."""
    blocks: gr.Blocks = gr.Blocks(title="SafeChat", analytics_enabled=False, fill_height=True)
    with blocks:
        Navbar(main_page_name="Chat")
        chat.page(gateway)
    with blocks.route("Review", "review"):
        Navbar(main_page_name="Chat")
        review.page(gateway)
    with blocks.route("Operations", "operations"):
        Navbar(main_page_name="Chat")
        operations.page(gateway)
    # By default one user's event at a time: everybody would wait for whoever is slowest.
    blocks.queue(default_concurrency_limit=None)
    return blocks


def mount(app: FastAPI, api_url: str, api_key: str | None = None) -> None:
    """Serve the pages at `/`, beside an app's own routes. Call it before the app starts.

    Where both know a path the app's own route wins, if it was there before.

    api_url: of the gateway, without /v1.
    api_key: used for everybody who opens a page and enters no key of their own, so give
    one only where everybody who can reach the page may use it.
    """
    gateway = Gateway(api_url, api_key)
    blocks = build(gateway)
    with warnings.catch_warnings():
        # Gradio says that several pages cannot have what is not asked for here.
        warnings.filterwarnings("ignore", "SSR mode is not supported")
        gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            theme=THEME,
            head=HEAD,
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=1,
        )
    mounted = app.routes.pop()
    if not isinstance(mounted, Mount):
        raise TypeError(f"expected the mounted pages last among the routes, found {mounted!r}")
    names = (name for name, *_ in blocks.pages)
    app.routes.append(Pages(SecurityHeaders(mounted.app), names))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with gateway, inner(app) as state:
            yield state

    app.router.lifespan_context = lifespan
