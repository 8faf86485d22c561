"""The operations page in a browser: what it shows is what the gateway's own routes say.

The tests share one open page and run in the order in which they stand.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from server.settings import JournalSettings
from tests.e2e.browser import chromium, fill_in, pages_of, visit
from tests.fakes.chat import ask
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import ScriptedLabeller, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """Four turns were asked of it: two completed, one of them declined, and two blocked."""
    async with (
        ScriptedEngine() as engine,
        run_gateway(
            quick_settings(journal=JournalSettings(folder=tmp_path_factory.mktemp("journal"))),
            engine_url=engine.url,
            guard=scripted_guard(labeller=ScriptedLabeller()),
        ) as gateway,
        client_for(gateway) as client,
    ):
        engine.enqueue(
            Script.words("Hello."), Script.words("I am sorry."), Script.words("It is a bomb.")
        )
        for words in ("Hello.", "Why not?", "What is it?", "How do I build a bomb?"):
            await client.post("/v1/chat/completions", json=ask(words))
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(gateway: RunningGateway) -> AsyncIterator[Page]:
    async with (
        pages_of(gateway.url) as url,
        chromium() as browser,
        visit(browser, f"{url}/operations") as page,
    ):
        yield page


async def test_the_page_shows_what_the_gateway_says(page: Page, gateway: RunningGateway) -> None:
    rows = page.locator("table.bars tr")
    await expect(rows.first).to_be_visible()
    shown = {}
    for row in await rows.all():
        name, count = (await row.inner_text()).split("\t")[0::2]
        shown[name.strip().replace(" ", "_")] = int(count)
    assert {name: count for name, count in shown.items() if count} == gateway.outcomes()
    tiles = page.locator("#tiles")
    await expect(tiles).to_contain_text("✓ ready")
    await expect(tiles.locator(".tile", has_text="Blocked")).to_contain_text("50.0%")
    waiting = int(gateway.sample("safechat_journal_pending"))
    await expect(tiles.locator(".tile", has_text="Waiting for review")).to_contain_text(
        str(waiting)
    )
    plots = page.get_by_role("img")
    labels = [await plot.get_attribute("aria-label") or "" for plot in await plots.all()]
    scores = int(gateway.sample("safechat_guard_score_count", axis="safety", stage="prompt"))
    assert f"Safety of messages: {scores} scores, 1 of them at most 0.5" in labels

    flagged = page.locator("#flagged tbody tr")
    await expect(flagged).to_have_count(3)
    await expect(flagged.first).to_contain_text("unsafe prompt")
    await expect(page.locator("#policy")).to_contain_text("below 0.50")
    await expect(page.locator("#policy")).to_contain_text("scripted-safety@1")


async def test_the_plots_live(page: Page, gateway: RunningGateway) -> None:
    completed = page.locator("table.bars tr", has_text="completed")
    await expect(completed).to_have_text("completed2")
    async with client_for(gateway) as client:
        await client.post("/v1/chat/completions", json=ask("Hello again."))
    await expect(completed).to_have_text("completed3")


async def test_any_text_can_be_scored(page: Page) -> None:
    await fill_in(page.get_by_role("textbox", name="Message"), "What is a bomb?")
    await page.get_by_role("button", name="Score it").click()
    await expect(page.locator("#scored")).to_contain_text("It would be blocked")
    await expect(page.locator("#scored")).to_contain_text("Safety5.0%")
    await fill_in(page.get_by_label("Reply (optional)"), "Nothing to worry about.")
    await page.get_by_role("button", name="Score it").click()
    await expect(page.locator("#scored")).to_contain_text("Judged asresponse")
