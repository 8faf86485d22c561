"""The operations page: the state of one gateway, live, for keys with the scope `admin`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from ui.gateway import Gateway, GatewayError
from ui.html import notice, piece, section
from ui.key import key_field, recall
from ui.metrics import Point, Reading
from ui.operations_view import flagged_view, plots_view, policy_view, score_view, tiles_view

EVERY_S = 5.0
KEPT = 360
"""Points that are plotted at most: half an hour."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """What one open page has seen so far."""

    points: tuple[Point, ...] = field(default=())

    def seen(self, reading: Reading) -> "Watch":
        return replace(self, points=(*self.points, Point.of(reading, time.time()))[-KEPT:])


def page(gateway: Gateway) -> None:
    """Lay the page out in the current Blocks, and wire it."""
    OperationsPage(gateway).wire()


class OperationsPage:
    """The components of one layout. Nothing is shown before the key was found good."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.watch = gr.State(Watch())
        self.timer = gr.Timer(EVERY_S)
        with gr.Column(elem_classes="page"):
            piece("<h1>SafeChat: operations</h1>", elem_classes="sr-only")
            self.key = key_field(gateway)
            self.notice = piece(elem_id="notice")
            with gr.Column(visible=False) as self.board:
                self.tiles = piece(elem_id="tiles")
                self.plots = piece(elem_id="plots")
                self.flagged = piece(elem_id="flagged")
                with gr.Row(elem_id="guard"):
                    self.policy = piece(elem_id="policy")
                    self._score_form()

    def _score_form(self) -> None:
        with gr.Column(elem_id="score-form", elem_classes="card"):
            piece("<h2>Score any text</h2>")
            self.message = gr.Textbox(
                label="Message", lines=2, max_lines=8, placeholder="What a user might say"
            )
            self.reply = gr.Textbox(
                label="Reply (optional)", lines=2, max_lines=8, placeholder="What a model might say"
            )
            self.ask = gr.Button("Score it", variant="primary")
            self.scored = piece(elem_id="scored")

    def wire(self) -> None:
        """Tell Gradio which function answers which event."""
        seen = [self.watch, self.tiles, self.plots, self.notice]
        all_of_it = [*seen, self.board, self.flagged, self.policy, self.key]
        recall(self.key).then(self.look, [self.key, self.watch], all_of_it, **_QUIET)
        for entered in (self.key.submit, self.key.blur):
            entered(self.look, [self.key, self.watch], all_of_it, **_QUIET)
        self.timer.tick(self.look, [self.key, self.watch], all_of_it, **_QUIET)
        self.ask.click(self.score, [self.key, self.message, self.reply], [self.scored], **_QUIET)

    async def look(self, key: str | None, watch: Watch) -> Updates:
        """All of the page once more. The policy comes first: it tells whether the key may look."""
        given = (key or "").strip()
        try:
            policy = await self._get("/v1/admin/policy", given)
            reading = Reading(await self.gateway.text("/metrics"))
            state = await self.gateway.state()
            flagged = await self._flagged(given)
        except GatewayError as error:
            return self._closed(error)
        watch = watch.seen(reading)
        return {
            self.watch: watch,
            self.notice: "",
            self.board: gr.Column(visible=True),
            self.tiles: tiles_view(reading, state),
            self.plots: plots_view(reading, watch.points),
            self.flagged: section("The last flagged turns", flagged),
            self.policy: section("The policy in force", policy_view(policy)),
            self.key: gr.Textbox(visible=bool(given)),
        }

    def _closed(self, error: GatewayError) -> Updates:
        """The numbers stay where they are while the gateway is away, but not for a wrong key."""
        words = notice("failed", str(error), "Operations cannot be shown")
        if error.code in ("missing_scope", "missing_api_key", "invalid_api_key"):
            return {self.notice: words, self.board: gr.Column(visible=False)}
        return {self.notice: words}

    async def score(self, key: str | None, message: str, reply: str) -> str:
        """What the guard says of a message, or of a reply to it."""
        if not message.strip():
            return notice("failed", "Write a message to score.", "Nothing to score")
        messages = [{"role": "user", "content": message}]
        if reply.strip():
            messages.append({"role": "assistant", "content": reply})
        try:
            answer = await self.gateway.ask(
                "POST", "/v1/score", api_key=key or "", body={"input": {"messages": messages}}
            )
        except GatewayError as error:
            return notice("failed", str(error), "It was not scored")
        return score_view(answer["data"][0])

    async def _flagged(self, key: str) -> str:
        try:
            return flagged_view((await self._get("/v1/admin/flagged?limit=10", key))["data"])
        except GatewayError as error:
            if error.code != "no_journal":
                raise
            return '<p class="quiet">This gateway keeps no journal.</p>'

    async def _get(self, path: str, key: str) -> Mapping[str, Any]:
        return await self.gateway.ask("GET", path, api_key=key)
