"""The review page keeps order, whichever of two events Gradio begins or answers first."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
import pytest
import pytest_asyncio

from tests.fakes.turns import NOON
from ui.gateway import Gateway
from ui.review import ReviewPage, Updates
from ui.sitting import Overtaken, Sitting


class SlowDesk(Gateway):
    """A gateway whose answers wait until they are let go. `asked` is what was asked of it."""

    def __init__(self) -> None:
        super().__init__("http://nowhere.invalid")
        self.asked: list[tuple[str, str]] = []
        self.let_go = asyncio.Event()

    async def ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        self.asked.append((method, path.removeprefix("/v1/review/")))
        await self.let_go.wait()
        body: Mapping[str, str] = given.get("body") or {}
        return {"item": item(body.get("item_id", f"{body.get('task')}:turn-1"))}


def item(item_id: str) -> dict[str, Any]:
    heading = {"round": 1, "adjudication": False, "reasons": [], "time": NOON}
    said = {"messages": [], "reply": "Yes.", "left": "Yes.", "right": "No.", "refused": False}
    task = item_id.split(":")[0]
    return {"item_id": item_id, "task": task, "details": None, **heading, **said}


def seen(at: float, shown: str | None = None) -> str:
    return json.dumps([at, shown])


@pytest.fixture
def desk() -> SlowDesk:
    return SlowDesk()


@pytest_asyncio.fixture
async def page(desk: SlowDesk) -> ReviewPage:
    """Laid out inside a running loop: Gradio would make one of its own, and leave it open."""
    with gr.Blocks():
        return ReviewPage(desk)


async def test_a_task_chosen_before_an_item_was_taken_does_not_clear_it(
    desk: SlowDesk, page: ReviewPage
) -> None:
    """Choosing a task and taking its first item at once, and the second event comes first."""
    sitting = Sitting()
    taking = asyncio.create_task(page.take(seen(2), sitting, "", "ada", "preference"))
    await asyncio.sleep(0)
    turning = asyncio.create_task(page.turn_to(seen(1), sitting, "", "ada", "preference"))
    desk.let_go.set()
    assert "preference:turn-1" in (await taking)[page.shown]
    assert changes_nothing(await turning)
    assert sitting.item == item("preference:turn-1")
    assert desk.asked == [("POST", "claims")]


@pytest.mark.parametrize("taken", ["preference", "safety"])
async def test_a_choice_that_the_browser_tells_of_too_late_leaves_an_item_of_that_task(
    desk: SlowDesk, page: ReviewPage, taken: str
) -> None:
    """The same, where the browser's clock too has the second event first."""
    desk.let_go.set()
    sitting = Sitting()
    await page.take(seen(1), sitting, "", "ada", taken)
    turned = await page.turn_to(seen(2), sitting, "", "ada", "preference")
    assert sitting.item == item("preference:turn-1")
    assert changes_nothing(turned) == (taken == "preference")
    given_back = [asked for asked in desk.asked if asked[0] == "DELETE"]
    assert given_back == ([] if taken == "preference" else [("DELETE", "claims/safety%3Aturn-1")])


async def test_a_choice_told_of_too_late_leaves_an_answer_that_can_be_undone(
    desk: SlowDesk, page: ReviewPage
) -> None:
    answered = item("preference:turn-1") | {"details": {}}
    sitting = Sitting(answered)
    assert changes_nothing(await page.turn_to(seen(1), sitting, "", "ada", "preference"))
    assert sitting.item == answered
    turned = await page.turn_to(seen(2), sitting, "", "ada", "safety")
    assert "Take the next item" in turned[page.shown]


async def test_another_task_without_an_item_shows_that_one_can_be_taken(
    desk: SlowDesk, page: ReviewPage
) -> None:
    turned = await page.turn_to(seen(1), Sitting(), "", "ada", "preference")
    assert "Take the next item" in turned[page.shown]
    assert desk.asked == []


async def test_what_is_done_next_waits_for_what_was_done_before(
    desk: SlowDesk, page: ReviewPage
) -> None:
    sitting = Sitting()
    taking = asyncio.create_task(page.take(seen(1), sitting, "", "ada", "safety"))
    await asyncio.sleep(0)
    opening = asyncio.create_task(page.open(seen(2), sitting, "", "ada", '{"turn": "safety:b"}'))
    await asyncio.sleep(0)
    assert desk.asked == [("POST", "claims")]
    desk.let_go.set()
    await asyncio.gather(taking, opening)
    assert desk.asked[1:] == [("DELETE", "claims/safety%3Aturn-1"), ("POST", "claims")]
    assert sitting.item == item("safety:b")


async def test_an_answer_to_an_item_that_is_no_longer_held_is_not_sent(
    desk: SlowDesk, page: ReviewPage
) -> None:
    """Skip and submit at once: the form was filled in for the item that was skipped."""
    desk.let_go.set()
    sitting = Sitting(item("safety:a"))
    await page.pass_on(seen(1, "safety:a"), sitting, "", "ada", "safety")
    values = [5, "", False, None, None, True, True, ""]
    late = await page.answer(seen(2, "safety:a"), sitting, "", "ada", *values)
    assert changes_nothing(late)
    assert ("POST", "ratings") not in desk.asked


async def test_the_item_that_was_seen_is_the_item_that_is_meant() -> None:
    assert Sitting().item_seen(seen(1)) is None
    assert Sitting(item("safety:a")).item_seen(seen(1, "safety:a")) == item("safety:a")
    with pytest.raises(Overtaken):
        Sitting(item("safety:b")).item_seen(seen(1, "safety:a"))


def changes_nothing(updates: Updates) -> bool:
    return all(update == gr.skip() for update in updates.values())
