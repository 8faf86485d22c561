"""The review page in a browser, on a real gateway and a real journal."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from flywheel.opinions import Feedback, FeedbackKind
from flywheel.records import Attempt, AttemptKind, RecordedMessage
from flywheel.sqlite.journal import SqliteJournal
from guard.types import Flag
from server.auth import hash_key
from server.settings import ApiKey, Scope
from tests.e2e.browser import chromium, fill_in, pages_of, visit
from tests.fakes.gateway import quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.turns import NOON, flagged_record

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEYS = (
    ApiKey(id="rita", sha256=hash_key("reviews"), scopes=frozenset({Scope.REVIEW})),
    ApiKey(id="carl", sha256=hash_key("chats"), scopes=frozenset({Scope.CHAT})),
)
HOSTILE = "<img src='http://evil.example/a.png'> <script>document.title = 'taken'</script>"
Desk = tuple[SqliteJournal, str, Browser]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """A desk with three flagged turns, the first of which its user appealed."""
    file = tmp_path_factory.mktemp("review") / "journal.sqlite"
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(SqliteJournal(file))
        engine = await stack.enter_async_context(ScriptedEngine())
        attempts = (
            Attempt(kind=AttemptKind.ORIGINAL, reply="One way to say it.", chosen=True),
            Attempt(kind=AttemptKind.STEER, reply="Another way to say it."),
        )
        for number in (1, 2, 3):
            said = (RecordedMessage(role="user", text=f"Question {number}. {HOSTILE}"),)
            await journal.record(
                flagged_record(
                    f"turn-{number}",
                    messages=said,
                    attempts=attempts,
                    flags={Flag.FALSE_REFUSAL, Flag.REFUSAL},
                )
            )
        appeal = Feedback.of("turn-1", "ada", FeedbackKind.APPEAL, NOON, "I am a chemist.")
        await journal.feedback(appeal)
        gateway = await stack.enter_async_context(
            run_gateway(
                quick_settings(), engine_url=engine.url, guard=scripted_guard(), journal=journal
            )
        )
        url = await stack.enter_async_context(pages_of(gateway.url))
        yield journal, f"{url}/review", await stack.enter_async_context(chromium())


async def come(page: Page, name: str, task: str = "Safety") -> None:
    """Sit down at the desk under a name, and take the first item."""
    await fill_in(page.get_by_label("Your name"), name)
    await expect(page.locator("#queue")).to_contain_text("Queue")
    await page.get_by_label(task, exact=True).check()
    await page.locator("body").press("n")
    await expect(page.locator(".item")).to_be_visible()


async def test_two_raters_settle_an_item_with_the_keyboard_alone_and_blind(desk: Desk) -> None:
    journal, url, browser = desk
    for name in ("ada", "ben"):
        async with visit(browser, url) as page:
            await come(page, name)
            await expect(page.locator(".why")).to_contain_text("Somebody asked for another look.")
            shown = await page.locator(".page").inner_text()
            assert "97%" not in shown
            assert "chemist" not in shown
            await page.locator("body").press("5")
            await expect(page.get_by_label("5 Safe")).to_be_checked()
            await page.locator("body").press("d")
            await page.locator("body").press("Enter")
            details = page.locator("#details")
            await expect(details).to_contain_text("I am a chemist.")
            await expect(details).to_contain_text("97% safe")
    await expect_settled(journal, "safety:turn-1", [5, 5])
    async with visit(browser, url) as page:
        await fill_in(page.get_by_label("Your name"), "cleo")
        await expect(page.locator("#agreement")).to_contain_text("Gwet's AC1")
        row = page.locator("#status tr", has_text="Safety")
        await expect(row.locator("td").nth(3)).to_have_text("1")


async def expect_settled(journal: SqliteJournal, item: str, scores: list[int]) -> None:
    ratings = await journal.ratings(item)
    assert [getattr(rating, "score", None) for rating in ratings] == scores
    assert all(getattr(rating, "blind", False) for rating in ratings)
    assert (await journal.turn("turn-1")).reviewed


async def test_an_answer_can_be_undone_and_given_again(desk: Desk) -> None:
    journal, url, browser = desk
    async with visit(browser, url) as page:
        await come(page, "dora")
        await page.locator("body").press("1")
        await page.locator("body").press("Enter")
        await expect(page.locator("#details")).to_contain_text("You: score: 1")
        await page.locator("body").press("u")
        await expect(page.locator("#details")).not_to_contain_text("You: score: 1")
        assert await journal.ratings("safety:turn-2") == []
        await page.locator("body").press("4")
        await page.locator("body").press("Enter")
        await expect(page.locator("#details")).to_contain_text(
            "You (after seeing the others): score: 4"
        )


async def test_a_skipped_item_is_not_offered_again(desk: Desk) -> None:
    _, url, browser = desk
    async with visit(browser, url) as page:
        await come(page, "emil")
        for number in (2, 3):
            await expect(page.locator(".item")).to_contain_text(f"Question {number}.")
            await page.locator("body").press("s")
        await expect(page.get_by_text("Nothing waits for you in this task.").first).to_be_visible()


async def test_two_replies_are_compared(desk: Desk) -> None:
    _, url, browser = desk
    async with visit(browser, url) as page:
        await come(page, "fred", "Preference")
        await expect(page.locator(".pair .said")).to_have_count(2)
        await page.locator("body").press("Enter")
        await expect(page.locator("#notice")).to_contain_text("Choose the better reply")
        for key in ("a", "3", "y", "Enter"):
            await page.locator("body").press(key)
        await expect(page.locator("#details")).to_contain_text("chosen: left; strength: slightly")
        await expect(page.locator("#details")).to_contain_text("right safe: no")


async def test_an_ideal_reply_is_written(desk: Desk) -> None:
    _, url, browser = desk
    async with visit(browser, url) as page:
        await come(page, "gina", "Demonstration")
        box = page.get_by_label("The ideal reply")
        await box.fill("It is safe, and this is why. Nothing is skipped: 1 2 3 s u n.")
        await box.press("Control+Enter")
        await expect(page.locator("#details")).to_contain_text("Nothing is skipped")


async def test_what_strangers_wrote_stays_text(desk: Desk) -> None:
    _, url, browser = desk
    async with visit(browser, url) as page:
        await come(page, "hugo")
        await expect(page.locator(".item")).to_contain_text("<script>")
        assert await page.locator(".item img").count() == 0
        assert await page.title() == "SafeChat"


async def test_a_key_without_the_scope_is_refused() -> None:
    async with (
        ScriptedEngine() as engine,
        run_gateway(
            quick_settings(keys=KEYS), engine_url=engine.url, guard=scripted_guard()
        ) as gateway,
        pages_of(gateway.url) as url,
        chromium() as browser,
    ):
        for path, words in (("review", "review desk is closed"), ("operations", "cannot be shown")):
            async with visit(browser, f"{url}/{path}") as page:
                await expect(page.get_by_text(words)).to_be_visible()
                await fill_in(page.get_by_label("API key"), "chats")
                scope = "review" if path == "review" else "admin"
                await expect(page.get_by_text(f"lacks the scope `{scope}`")).to_be_visible()
                await expect(page.locator("#policy")).to_have_count(0)
