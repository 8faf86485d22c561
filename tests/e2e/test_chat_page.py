"""The chat page in a browser: a real gateway, an engine and a guard that follow a script."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from playwright.async_api import Browser, Page, expect

from server.auth import hash_key
from server.settings import ApiKey, JournalSettings
from tests.e2e.browser import chromium, fill_in, pages_of, say, visit
from tests.fakes.gateway import RunningGateway, quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Ending, Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.vllm_wire import error_event
from tests.gateway_process import GatewayProcess
from ui.app import mount

STORY = "Once upon a time there was a small boat that went to sea with a cat and a goat. "
KEY = "sk-of-the-test"
HOSTILE = (
    "Look: ![a](http://evil.example/a.png) <img src='http://evil.example/b.png'> "
    "<script>document.title = 'taken'</script> and `<b>` and so on to the end."
)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[ScriptedEngine, RunningGateway, str, Browser]]:
    folder = tmp_path_factory.mktemp("journal")
    settings = quick_settings(journal=JournalSettings(folder=folder))
    async with (
        ScriptedEngine() as engine,
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as gateway,
        pages_of(gateway.url) as url,
        chromium() as browser,
    ):
        yield engine, gateway, url, browser


Everything = tuple[ScriptedEngine, RunningGateway, str, Browser]


@pytest.fixture
def engine(everything: Everything) -> ScriptedEngine:
    """Tells a story of three sentences, unless told otherwise."""
    engine = everything[0]
    engine.script = Script.words(STORY * 3, delay=0.02)
    engine.bodies.clear()
    engine.aborted = 0
    return engine


@pytest.fixture
def gateway(everything: Everything) -> RunningGateway:
    return everything[1]


@pytest_asyncio.fixture(loop_scope="module")
async def page(everything: Everything, engine: ScriptedEngine) -> AsyncIterator[Page]:
    async with visit(everything[3], everything[2]) as page:
        yield page


async def test_a_reply_is_shown_while_it_grows_and_then_scored(page: Page) -> None:
    await say(page, "Tell me a story.")
    reply = page.get_by_test_id("bot").first
    await expect(reply).to_contain_text("Once upon")
    assert await page.locator(".verdict").count() == 0
    await expect(page.locator(".verdict")).to_contain_text("Safety")
    await expect(page.locator(".verdict")).to_contain_text("Helpfulness")
    await expect(page.locator(".score b").first).to_have_text("safe")
    await expect(reply).to_contain_text((STORY * 3).strip())
    assert (await reply.inner_text()).count("goat") == 3


async def test_a_blocked_reply_says_so_and_is_not_told_later(
    page: Page, engine: ScriptedEngine
) -> None:
    engine.enqueue(Script.words(STORY * 2 + "Then they built a bomb." + STORY))
    await say(page, "Go on.")
    notice = page.locator(".notice.blocked")
    await expect(notice).to_contain_text("characters shown before that were judged safe")
    assert "bomb" not in await page.locator("#conversation").inner_text()
    await expect(page.locator(".verdict")).not_to_contain_text("Helpfulness")

    await say(page, "Something else, then.")
    await expect(page.locator(".verdict")).to_have_count(2)
    assert engine.bodies[-1]["messages"] == [{"role": "user", "content": "Something else, then."}]


async def test_html_and_images_of_a_model_stay_text(page: Page, engine: ScriptedEngine) -> None:
    engine.enqueue(Script.words(HOSTILE))
    await say(page, HOSTILE)
    await expect(page.locator(".verdict")).to_be_visible()
    reply = page.get_by_test_id("bot").first
    await expect(reply).to_contain_text("![a](http://evil.example/a.png)")
    await expect(reply).to_contain_text("<img src=")
    assert await page.locator("#conversation img[src*=evil]").count() == 0
    assert await page.title() == "SafeChat"


async def test_the_browser_itself_is_told_to_load_nothing_from_elsewhere(page: Page) -> None:
    response = await page.goto(page.url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "img-src 'self' data: blob:" in policy


async def test_stop_aborts_the_generation_and_keeps_what_was_shown(
    page: Page, engine: ScriptedEngine
) -> None:
    engine.script = Script.words(STORY * 40, delay=0.02)
    await say(page, "A long one.")
    await expect(page.get_by_test_id("bot").first).to_contain_text("Once upon")
    await page.locator("#message button").click()
    await expect(page.locator(".notice.failed")).to_contain_text("You stopped this reply.")
    await engine.idle()
    assert engine.aborted == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(status=500), "The model failed to answer."),
        (Script.words(STORY, tail=error_event()), "The model failed to answer."),
        (Script(deltas=(("One",),), ending=Ending.STALL), "The model failed to answer."),
    ],
)
async def test_failures_are_told_in_plain_words(
    page: Page, engine: ScriptedEngine, script: Script, words: str
) -> None:
    engine.script = script
    await say(page, "Hello.")
    await expect(page.locator(".notice.failed")).to_contain_text(words, timeout=10_000)
    assert "Traceback" not in await page.content()


async def test_an_expired_key_asks_for_a_new_one_and_the_chat_stays(
    everything: Everything, engine: ScriptedEngine
) -> None:
    settings = quick_settings(keys=(ApiKey(id="a", sha256=hash_key(KEY)),))
    async with (
        run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as gateway,
        pages_of(gateway.url) as url,
        visit(everything[3], url) as page,
    ):
        await say(page, "Hello.")
        await expect(page.locator(".notice.failed")).to_contain_text("asks for a valid API key")
        await page.get_by_role("button", name="Go to the field for the API key").click()
        await fill_in(page.get_by_label("API key", exact=True), KEY)
        await page.get_by_role("button", name="Ask the same again").click()
        await expect(page.locator(".verdict")).to_be_visible()
        await expect(page.get_by_test_id("user")).to_have_text("Hello.")
        assert KEY not in await page.evaluate("JSON.stringify(localStorage)")


async def test_the_apis_own_paths_stay_its_own() -> None:
    app = FastAPI()

    @app.post("/v1/thing")
    async def thing() -> str:
        return "made"

    mount(app, "http://127.0.0.1:9")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.post("/v1/thing")).json() == "made"
        assert (await client.get("/v1/thing")).status_code == 405
        assert (await client.get("/openapi.json")).json()["paths"].keys() == {"/v1/thing"}
        unknown = await client.get("/v1/unknown")
        assert unknown.status_code == 404
        assert "content-security-policy" not in unknown.headers
        assert "content-security-policy" in (await client.get("/theme.css")).headers


async def test_an_instruction_is_shown_as_in_force_at_every_turn(
    page: Page, engine: ScriptedEngine
) -> None:
    await page.get_by_role("button", name="Settings").click()
    await fill_in(page.get_by_label("System prompt"), "Answer as a sailor.")
    for number in (1, 2, 3):
        await say(page, f"Question {number}.")
        await expect(page.locator(".verdict .instruction")).to_have_count(number)
    assert set(await page.locator(".verdict .instruction").all_inner_texts()) == {
        "In force: Answer as a sailor."
    }
    told = engine.bodies[-1]["messages"]
    assert told[0] == {"role": "system", "content": "Answer as a sailor."}
    assert [message["role"] for message in told[1:]] == ["user", "assistant"] * 2 + ["user"]


async def test_a_red_teamer_says_what_is_tried(page: Page, gateway: RunningGateway) -> None:
    await page.get_by_role("button", name="Red team").click()
    await fill_in(page.get_by_label("Session"), "friday")
    await fill_in(page.get_by_label("Goal"), "a story without an end")
    await fill_in(page.get_by_label("Kind of attack"), "fiction")
    await say(page, "Tell me a story.")
    await expect(page.locator(".verdict")).to_have_count(1)
    assert gateway.parts.journal is not None
    [tried] = [found for e in await gateway.parts.journal.page() if (found := e.record.red_team)]
    assert (tried.session, tried.goal) == ("friday", "a story without an end")
    assert (tried.category, tried.vector) == (None, "fiction")


async def test_an_appeal_and_a_report_reach_the_review_queue(
    page: Page, engine: ScriptedEngine, gateway: RunningGateway
) -> None:
    await say(page, "How does one defuse a bomb?")
    await page.get_by_role("button", name="Ask people to look at this block").click()
    await expect(page.locator(".thanks")).to_contain_text("this was a fair question")
    engine.enqueue(Script.words("Once there was a story without an end."))
    await say(page, "Tell me a story.")
    await page.get_by_role("button", name="This reply is helpful").click()
    await expect(page.get_by_role("button", name="This reply is helpful")).to_have_attribute(
        "aria-pressed", "true"
    )
    await page.locator(".report").last.locator("summary").click()
    await page.get_by_label("What is wrong with this reply?").last.fill("It never ends.")
    await page.get_by_role("button", name="Send this turn to the reviewers").last.click()
    await expect(page.locator(".thanks").last).to_contain_text("You reported this reply.")
    assert gateway.parts.journal is not None
    waiting = await gateway.parts.journal.queue()
    said = [[(f.kind.value, f.text) for f in entry.feedback] for entry in waiting if entry.feedback]
    assert said == [[("appeal", "")], [("thumbs_up", ""), ("report", "It never ends.")]]


async def test_a_question_can_be_edited_and_what_followed_it_goes(
    page: Page, engine: ScriptedEngine
) -> None:
    for number in (1, 2):
        await say(page, f"Question {number}.")
        await expect(page.locator(".verdict")).to_have_count(number)
    await page.get_by_role("button", name="Change the question").first.click()
    box = page.locator("#message textarea")
    await expect(box).to_have_value("Question 1.")
    await say(page, "Another question.")
    await expect(page.get_by_test_id("user")).to_have_text(["Another question."])
    await expect(page.locator(".verdict")).to_have_count(1)
    assert engine.bodies[-1]["messages"] == [{"role": "user", "content": "Another question."}]


async def test_conversations_stay_in_the_browser_and_can_be_exported(
    page: Page, gateway: RunningGateway
) -> None:
    await say(page, "Tell me a story.")
    await expect(page.get_by_role("radio", name="Tell me a story.")).to_be_checked()
    await page.reload()
    await expect(page.locator(".verdict")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export as JSON").click()
    exported = json.loads((await (await download.value).path()).read_text())
    assert exported["turns"][0]["question"] == "Tell me a story."
    assert exported["turns"][0]["verdict"]["safety"] == 0.95
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.get_by_test_id("user")).to_have_count(0)
    await page.get_by_role("radio", name="Tell me a story.").click()
    await expect(page.get_by_test_id("user")).to_have_text("Tell me a story.")
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("radio", name="Tell me a story.")).to_have_count(0)
    assert gateway.parts.journal is not None
    kept = [entry.record for entry in await gateway.parts.journal.page()]
    assert exported["id"] not in {record.conversation_id for record in kept}


async def test_very_long_words_wrap_at_phone_width(
    everything: Everything, engine: ScriptedEngine
) -> None:
    engine.enqueue(Script.words("Say " + "ab" * 400))
    phone = {"width": 390, "height": 800}
    async with visit(everything[3], everything[2], viewport=phone) as page:
        await say(page, "x" * 800)
        await expect(page.locator(".verdict")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        for words in await page.locator("#conversation .message").all():
            box = await words.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= 390


async def test_nothing_but_the_reply_moves_while_it_streams(
    page: Page, engine: ScriptedEngine
) -> None:
    engine.script = Script.words(STORY * 6, delay=0.02)
    await say(page, "A story.")
    await expect(page.get_by_test_id("bot").first).to_contain_text("Once upon")
    places = set()
    while not await page.locator(".verdict").count():
        question = await page.get_by_test_id("user").bounding_box()
        box = await page.locator("#message").bounding_box()
        assert question is not None
        assert box is not None
        places.add((question["y"], box["y"]))
    assert len(places) == 1


async def test_a_gateway_that_dies_within_a_reply_is_an_error_with_another_try(
    everything: Everything, engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with (
        GatewayProcess(engine.url, tmp_path) as gateway,
        pages_of(gateway.url) as url,
        visit(everything[3], url) as page,
    ):
        engine.script = Script.words(STORY * 40, delay=0.02)
        await say(page, "A long one.")
        await expect(page.get_by_test_id("bot").first).to_contain_text("Once upon")
        gateway.kill()
        failed = page.locator(".notice.failed")
        await expect(failed).to_contain_text("The connection broke before the reply was complete.")
        await expect(page.get_by_test_id("bot").first).to_contain_text("Once upon")
        await gateway.start()
        engine.script = Script.words(STORY)
        await page.get_by_role("button", name="Ask the same again").click()
        await expect(page.locator(".verdict")).to_be_visible()
        await expect(failed).to_have_count(0)
