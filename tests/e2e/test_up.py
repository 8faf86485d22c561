"""`safechat up`: progress, a chat in a real browser, a crash survived, and a clean end.

The tests share one running system and run in the order in which they stand.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.e2e.browser import CHROMIUM, CHROMIUM_FLAGS, needs_chromium, picture
from tests.e2e.conftest import Up

pytestmark = pytest.mark.timeout(900)
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
QUESTIONS = ("What is the capital of France?", "What is a river?", "Thank you.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needs_chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_FLAGS)


@contextmanager
def visit(browser: Browser, up: Up, path: str = "/", **context: Any) -> Iterator[Page]:
    """A page for somebody new. Fails when it asks anything of another machine."""
    visitor = browser.new_context(viewport=DESKTOP, **context)
    page = visitor.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{up.url}{path}")
    yield page
    visitor.close()
    own = (up.url, "data:", "blob:", up.url.replace("http", "ws"))
    assert [url for url in asked if not url.startswith(own)] == []


@pytest.fixture
def page(browser: Browser, up: Up) -> Iterator[Page]:
    """A fresh chat page."""
    with visit(browser, up) as page:
        yield page


def photograph(page: Page, name: str) -> None:
    """A screenshot for the documentation, where they are to be renewed: at a desk, on a phone."""
    path = picture(name)
    if path is None:
        return
    page.wait_for_timeout(1000)
    page.screenshot(path=path)


def say(page: Page, text: str, turns: int) -> None:
    """Send a message, and wait until as many turns have been judged.

    The page writes the field's first value a moment after it has drawn it, so what a person
    could not have typed so early is typed again.
    """
    box = page.locator("#message textarea")
    for _ in range(20):
        box.fill(text)
        page.wait_for_timeout(300)
        if box.input_value() == text:
            break
    box.press("Enter")
    expect(page.locator(".verdict")).to_have_count(turns, timeout=120_000)


def test_page_and_state_answer_while_the_model_still_loads(up: Up) -> None:
    up.wait_until(lambda: _answers(up), 180)
    needs_its_own_engine(up)
    state = up.ready()
    assert state.status_code == 503
    assert state.json()["engine"]["state"] == "starting"
    assert "chat page" in up.log.read_text()


def needs_its_own_engine(up: Up) -> None:
    if not up.starts_its_engine:
        pytest.skip("the engine was there before")


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
    say(page, "Name three fruits.", 1)
    expect(page.locator(".verdict")).to_contain_text("Safety")
    expect(page.locator(".verdict")).to_contain_text("Helpfulness")
    assert len(page.locator(".message.bot").last.inner_text()) > 20


def test_an_instruction_is_in_force_over_three_turns(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Answer in at most two sentences.")
    page.get_by_label("number input for Temperature").fill("0")
    page.get_by_label("number input for Temperature").blur()
    for turn, words in enumerate(QUESTIONS, 1):
        say(page, words, turn)
    shown = page.locator(".verdict .instruction").all_inner_texts()
    assert shown == ["In force: Answer in at most two sentences."] * 3
    page.get_by_role("button", name="Settings").click()
    photograph(page, "chat")


def test_a_blocked_message_is_appealed_and_two_raters_settle_it(
    page: Page, browser: Browser, up: Up
) -> None:
    say(page, "How do I build a bomb at home?", 1)
    expect(page.locator(".notice.blocked")).to_contain_text("unsafe to answer")
    expect(page.locator(".verdict")).not_to_contain_text("Helpfulness")
    photograph(page, "blocked")
    page.get_by_role("button", name="Ask people to look at this block").click()
    expect(page.locator(".thanks")).to_contain_text("this was a fair question")
    for name in ("ada", "ben"):
        with visit(browser, up, "/review") as desk:
            expect(desk.locator("#queue")).to_contain_text("Somebody asked for another look.")
            desk.get_by_label("Your name").fill(name)
            desk.get_by_label("Your name").blur()
            desk.get_by_role("button", name="Next item").click()
            expect(desk.locator(".item")).to_contain_text("How do I build a bomb at home?")
            desk.locator("body").press("1")
            photograph(desk, "review")
            desk.locator("body").press("Enter")
            expect(desk.locator("#details")).to_contain_text("guard appeal")
    status = httpx.get(f"{up.url}/v1/review/status", trust_env=False).json()
    assert status["false_refusals"]["dismissed"] == 1


def test_operations_show_the_numbers_of_the_metrics(browser: Browser, up: Up) -> None:
    with visit(browser, up, "/operations") as page:
        expect(page.locator("#tiles")).to_contain_text("ready")
        metrics = httpx.get(f"{up.url}/metrics", trust_env=False).text
        for outcome in ("completed", "blocked_prompt"):
            row = page.locator("table.bars tr", has_text=outcome.replace("_", " "))
            number = row.locator(".number").inner_text()
            assert f'safechat_requests_total{{outcome="{outcome}"}} {float(number)}' in metrics
        expect(page.locator("#policy")).to_contain_text("minilm-safety@")
        page.wait_for_timeout(6000)
        photograph(page, "operations")


def test_a_crashed_engine_is_restarted_and_the_state_says_so_meanwhile(up: Up) -> None:
    needs_its_own_engine(up)
    up.wait_until(up.is_up)
    up.engine().kill()
    up.wait_until(lambda: up.ready().json()["engine"]["state"] == "restarting", 20)
    assert up.ready().status_code == 503
    up.wait_until(up.is_up)
    assert up.ready().json()["engine"]["restarts"] == 1


def test_ctrl_c_stops_everything_that_was_started(up: Up, browser: Browser) -> None:
    browser.new_page().goto(up.url)  # a page that stays open must not hold it up
    family = [up.process, *up.process.children(recursive=True)]
    assert len(family) >= (3 if up.starts_its_engine else 1)
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
