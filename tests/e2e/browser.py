"""Pages in Debian's Chromium, and what a person does on them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from ui.app import mount

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A busy machine draws late: nothing here measures speed.
expect.set_options(timeout=20_000)


def needs_chromium() -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: `make test` installs it")


@asynccontextmanager
async def pages_of(gateway_url: str) -> AsyncIterator[str]:
    """The pages as a server of their own, clients of that gateway. Yields their address."""
    app = FastAPI(openapi_url=None)
    mount(app, gateway_url)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=5)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    needs_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=CHROMIUM_FLAGS
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(browser: Browser, url: str, **context: Any) -> AsyncIterator[Page]:
    """A page for somebody new. Fails when it asks anything of another machine."""
    asked: list[str] = []
    visitor = await browser.new_context(**context)
    page = await visitor.new_page()
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(url)
    try:
        yield page
    finally:
        await visitor.close()
    elsewhere = [url for url in asked if urlsplit(url).hostname not in ("127.0.0.1", None)]
    assert elsewhere == []


def picture(name: str) -> Path | None:
    """Where a screenshot for the documentation goes, when they are to be renewed."""
    folder = os.environ.get("SAFECHAT_TEST_SCREENSHOTS")
    return Path(folder) / f"{name}.png" if folder else None


async def say(page: Page, text: str) -> None:
    box = page.locator("#message textarea")
    await fill_in(box, text)
    await box.press("Enter")


async def fill_in(field: Locator, value: str) -> None:
    """Fill a field in that has just appeared.

    The page writes the field's first value a moment after it has drawn it, so what a person
    could not have typed so early is typed again.
    """
    for _ in range(20):
        await field.fill(value)
        await field.blur()
        await asyncio.sleep(0.3)
        if await field.input_value() == value:
            return
    raise AssertionError("the field does not keep what is typed")
