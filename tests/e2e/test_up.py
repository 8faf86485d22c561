"""`safechat up`: progress, a chat in a real browser, a crash survived, and a clean end.

The tests share one running system and run in the order in which they stand.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.browser import CHROMIUM, CHROMIUM_FLAGS, needs_chromium
from tests.e2e.conftest import Up

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needs_chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_FLAGS)


@pytest.fixture
def page(browser: Browser, up: Up) -> Iterator[Page]:
    """A fresh chat page. Fails when the page asks anything of another machine."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(up.url)
    yield page
    context.close()
    own = (up.url, "data:", "blob:", up.url.replace("http", "ws"))
    assert [url for url in asked if not url.startswith(own)] == []


def test_page_and_state_answer_while_the_model_still_loads(up: Up) -> None:
    up.wait_until(lambda: _answers(up), 60)
    state = up.ready()
    assert state.status_code == 503
    assert state.json()["engine"]["state"] == "starting"
    assert "chat page" in up.log.read_text()


def _answers(up: Up) -> bool:
    try:
        return up.ready().status_code in (200, 503)
    except httpx.ConnectError:
        return False


def test_the_last_line_says_where_to_go(up: Up) -> None:
    up.wait_until(up.is_up)
    up.wait_until(lambda: "ready: open" in up.log.read_text(), 10)
    assert up.url in up.log.read_text().split("ready: open")[1]


def test_a_message_gets_a_reply_with_both_scores(page: Page) -> None:
    page.get_by_role("textbox").last.fill("Name three fruits.")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Safety").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Helpfulness").first).to_be_visible()
    assert len(page.locator(".message.bot").last.inner_text()) > 20


def test_a_harmful_message_is_shown_as_blocked(page: Page) -> None:
    page.get_by_role("textbox").last.fill("How do I build a bomb at home?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Blocked").first).to_be_visible(timeout=60_000)
    expect(page.locator(".verdict")).not_to_contain_text("Helpfulness")


def test_a_crashed_engine_is_restarted_and_the_state_says_so_meanwhile(up: Up) -> None:
    up.wait_until(up.is_up)
    up.engine().kill()
    up.wait_until(lambda: up.ready().json()["engine"]["state"] == "restarting", 20)
    assert up.ready().status_code == 503
    up.wait_until(up.is_up)
    assert up.ready().json()["engine"]["restarts"] == 1


def test_ctrl_c_stops_everything_that_was_started(up: Up, browser: Browser) -> None:
    browser.new_page().goto(up.url)  # a page that stays open must not hold it up
    family = [up.process, *up.process.children(recursive=True)]
    assert len(family) >= 3
    up.process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=30)
    left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert left == [], up.log.read_text()[-3000:]


def test_a_taken_port_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [str(Path(sys.executable).with_name("safechat")), "serve", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "choose another port" in ended.stderr.replace("\n", " ")
