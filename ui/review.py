"""The review page: one item at a time, rated blind, with the keyboard alone if one likes."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeGuard

import gradio as gr

from ui.desk import TASKS, Desk
from ui.gateway import Gateway, GatewayError
from ui.html import notice, piece, section
from ui.key import key_field, name_field, recall
from ui.look import asset
from ui.review_forms import Forms
from ui.review_view import (
    QUESTIONS,
    agreement_view,
    details_view,
    item_view,
    queue_view,
    status_view,
)
from ui.sitting import Overtaken, Sitting, seen_js

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_BEGIN = "Take the next item. It is held for you for ten minutes, so that nobody rates it with you."
_BLIND = "You rate blind: scores, flags and the answers of others come after yours."
_SHORTCUTS = """<details class="details"><summary>Keyboard shortcuts</summary>
<p class="quiet"><kbd>1</kbd>–<kbd>5</kbd> score · <kbd>D</kbd> declined wrongly ·
<kbd>A</kbd> <kbd>B</kbd> better reply · <kbd>1</kbd>–<kbd>4</kbd> how clearly ·
<kbd>X</kbd> <kbd>Y</kbd> reply A or B is safe · <kbd>Enter</kbd> submit
(<kbd>Ctrl</kbd> <kbd>Enter</kbd> while writing) · <kbd>S</kbd> skip · <kbd>N</kbd> next ·
<kbd>U</kbd> undo</p></details>"""

Updates = dict[Any, Any]


def page(gateway: Gateway) -> None:
    """Lay the page out in the current Blocks, and wire it."""
    ReviewPage(gateway).wire()


class ReviewPage:
    """The components of one layout."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.sitting = gr.State(Sitting())
        self.seen = gr.Textbox(visible=False)
        with gr.Column(elem_classes="page"):
            piece("<h1>SafeChat: review</h1>", elem_classes="sr-only")
            with gr.Row(elem_id="bar"):
                choices = [(name, task) for task, name in TASKS.items()]
                self.task = gr.Radio(choices, value="safety", label="Task", elem_id="task")
                self.name = name_field()
                self.key = key_field(gateway)
            self.notice = piece("", elem_id="notice")
            with gr.Row(elem_id="desk"):
                with gr.Column(scale=3, min_width=320):
                    self.shown = piece(_welcome())
                with gr.Column(scale=2, min_width=300, elem_id="answer"):
                    self.question = piece("")
                    self.forms = Forms()
                    self._buttons()
                    self.details = piece("", elem_id="details")
                    piece(_SHORTCUTS)
            self.queue = piece("", elem_id="queue")
            with gr.Row(elem_id="figures"):
                self.status = piece("", elem_id="status")
                self.agreement = piece("", elem_id="agreement")
        self.act = piece("", visible="hidden", html_template="", js_on_load=asset("acts.js"))
        piece("", visible="hidden", html_template="", js_on_load=asset("keys.js"))

    def _buttons(self) -> None:
        with gr.Row(elem_id="buttons"):
            self.submit = gr.Button(
                "Submit  ⏎", variant="primary", visible=False, elem_id="submit", min_width=90
            )
            self.next = gr.Button("Next item  N", variant="primary", elem_id="next", min_width=90)
            self.skip = gr.Button("Skip  S", visible=False, elem_id="skip", min_width=70)
            self.undo = gr.Button("Undo  U", visible=False, elem_id="undo", min_width=70)

    def wire(self) -> None:
        """Tell Gradio which function answers which event."""
        rater = [self.key, self.name]
        figures = [self.queue, self.status, self.agreement, *rater]
        shown: list[Any] = [self.notice, self.shown, self.question, self.details]
        shown += [self.submit, self.next, self.skip, self.undo, *self.forms.all]

        def on(event: Any, do: Any, *inputs: Any) -> None:
            given = [self.seen, self.sitting, *rater, *inputs]
            done = event(do, given, shown, js=seen_js(len(given)), **_QUIET)
            done.then(self.figures, [self.task, *rater], figures, **_QUIET)

        on(self.next.click, self.take, self.task)
        on(self.task.input, self.turn_to, self.task)
        on(self.act.click, self.open, self.act)
        on(self.skip.click, self.pass_on, self.task)
        on(self.submit.click, self.answer, *self.forms.all)
        on(self.undo.click, self.take_back)
        for field in rater:
            field.submit(self.figures, [self.task, *rater], figures, **_QUIET)
            field.blur(self.figures, [self.task, *rater], figures, **_QUIET)
        recall(self.key, self.name).then(self.figures, [self.task, *rater], figures, **_QUIET)

    async def take(self, seen: str, sitting: Sitting, key: str, name: str, task: str) -> Updates:
        """The next item; one that was held and not answered goes back."""
        desk = self._desk(key, name)

        async def taken() -> Updates:
            await _give_back(desk, sitting.item)
            return self._showing(sitting, await desk.claim(task))

        return await self._in_turn(seen, sitting, taken)

    async def turn_to(self, seen: str, sitting: Sitting, key: str, name: str, task: str) -> Updates:
        """Another task: whoever holds an item of another one gets an item of this one for it.

        A browser may tell of the choice after what was done next: an item of this task stays.
        """
        desk = self._desk(key, name)

        async def turned() -> Updates:
            if sitting.item and sitting.item["task"] == task:
                return {self.notice: gr.skip()}
            if not _held(sitting.item):
                return self._nothing(sitting, _welcome())
            await _give_back(desk, sitting.item)
            return self._showing(sitting, await desk.claim(task))

        return await self._in_turn(seen, sitting, turned)

    async def open(self, seen: str, sitting: Sitting, key: str, name: str, act: str) -> Updates:
        """An item of the queue by its name."""
        desk, wanted = self._desk(key, name), str(json.loads(act)["turn"])

        async def opened() -> Updates:
            await _give_back(desk, sitting.item)
            return self._showing(sitting, await desk.claim_named(wanted))

        return await self._in_turn(seen, sitting, opened)

    async def pass_on(self, seen: str, sitting: Sitting, key: str, name: str, task: str) -> Updates:
        """Skip: never be offered it again, and take the next."""
        desk = self._desk(key, name)

        async def passed() -> Updates:
            if item := sitting.item_seen(seen):
                await desk.skip(item["item_id"])
            return self._showing(sitting, await desk.claim(task))

        return await self._in_turn(seen, sitting, passed)

    async def answer(
        self, seen: str, sitting: Sitting, key: str, name: str, *values: Any
    ) -> Updates:
        """Send what the form says; what comes back shows all the rest."""
        desk = self._desk(key, name)

        async def answered() -> Updates:
            item = sitting.item_seen(seen)
            missing = self.forms.missing(item, values)
            if missing or item is None:
                return {self.notice: notice("failed", missing, "Not yet")}
            return self._showing(sitting, await desk.rate(self.forms.answer(item, values)))

        return await self._in_turn(seen, sitting, answered)

    async def take_back(self, seen: str, sitting: Sitting, key: str, name: str) -> Updates:
        """Undo the answer just given, and hold the item again."""
        desk = self._desk(key, name)

        async def taken_back() -> Updates:
            item = sitting.item_seen(seen)
            if item is None:
                return self._nothing(sitting, _welcome())
            await desk.undo(item["item_id"])
            again = await desk.claim_named(item["item_id"])
            return self._showing(sitting, again, filled=True)

        return await self._in_turn(seen, sitting, taken_back)

    async def figures(self, task: str, key: str, name: str) -> AsyncIterator[Updates]:
        """Queue, progress and agreement, or why they cannot be seen."""
        desk = self._desk(key, name)
        try:
            queue = queue_view(await desk.queue(task))
            yield {
                self.queue: section("Queue", queue),
                # One of the two says who rates; the other has nothing to say here.
                self.name: gr.Textbox(visible=not desk.api_key and not self.gateway.has_key),
                self.key: gr.Textbox(visible=bool(desk.api_key)),
            }
            yield {
                self.status: section("Progress", status_view(await desk.status())),
                self.agreement: section("Agreement so far", agreement_view(await desk.agreement())),
            }
        except GatewayError as error:
            closed = notice("failed", str(error), "The review desk is closed")
            yield {self.queue: closed, self.status: "", self.agreement: ""}

    def _desk(self, key: str | None, name: str | None) -> Desk:
        return Desk(self.gateway, (key or "").strip(), (name or "").strip())

    async def _in_turn(
        self, seen: str, sitting: Sitting, doing: Callable[[], Awaitable[Updates]]
    ) -> Updates:
        try:
            async with sitting.in_turn(seen):
                return await doing()
        except Overtaken:
            return {self.notice: gr.skip()}
        except GatewayError as error:
            return {self.notice: notice("failed", str(error), "That did not work")}

    def _showing(
        self, sitting: Sitting, item: dict[str, Any] | None, *, filled: bool = False
    ) -> Updates:
        if item is None:
            words = notice("done", "Nothing waits for you in this task.", "All done")
            return self._nothing(sitting, words)
        sitting.item = item
        answered = item["details"] is not None
        question = "" if answered else _question(item)
        return {
            self.notice: notice("done", "It is kept. U takes it back.", "Thank you")
            if answered
            else "",
            self.shown: item_view(item),
            self.question: question,
            self.details: details_view(item) if answered else "",
            self.submit: gr.Button(visible=not answered),
            self.skip: gr.Button(visible=not answered),
            self.next: gr.Button(visible=answered),
            self.undo: gr.Button(visible=answered),
            **self.forms.ask(item, shown=not answered, keep=filled),
        }

    def _nothing(self, sitting: Sitting, words: str) -> Updates:
        sitting.item = None
        return {
            self.notice: "",
            self.shown: words,
            self.question: "",
            self.details: "",
            self.submit: gr.Button(visible=False),
            self.skip: gr.Button(visible=False),
            self.next: gr.Button(visible=True),
            self.undo: gr.Button(visible=False),
            **self.forms.ask(None, shown=False),
        }


async def _give_back(desk: Desk, item: Mapping[str, Any] | None) -> None:
    if _held(item):
        await desk.release(item["item_id"])


def _held(item: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether there is one, and it waits for its rater's answer."""
    return item is not None and item["details"] is None


def _welcome() -> str:
    return f'<div class="card"><h2>Flagged turns wait for people</h2><p>{_BEGIN}</p></div>'


def _question(item: Mapping[str, Any]) -> str:
    asked = QUESTIONS[item["task"]]
    if item["task"] == "safety" and item["reply"] is None:
        asked = "How safe is this request?"
    return f'<h2 class="asked">{asked}</h2><p class="quiet">{_BLIND}</p>'
