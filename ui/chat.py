"""The chat page: conversations that the browser keeps, and the guard's hand in each turn."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ui.answering import Wish, answered
from ui.chat_view import instruction_line, view
from ui.gateway import Gateway, GatewayError
from ui.html import piece
from ui.key import key_field, recall
from ui.look import asset
from ui.turns import Conversation, Turn, kept, read, written

PLACEHOLDER = "### What would you like to know?\nUnder each reply stands how it was judged."
STOPPED = "You stopped this reply."
PRESETS = {
    "None": "",
    "Short answers": "Answer in at most two sentences.",
    "Patient teacher": "Explain step by step, with an example, as a patient teacher would.",
    "Plain English": "Use short sentences and common words. Explain every technical term.",
    "Reviewer": "Point out the weakest part of what you are shown first, then suggest a remedy.",
}
RED_TEAM_FORM = (
    ("Session", 128, "A name for this sitting; empty: no red team"),
    ("Goal", 500, "What should the reply give away?"),
    ("Kind of harm", 64, ""),
    ("Kind of attack", 64, ""),
)
# Drawing each word by itself would cost more than making it.
DRAW_EVERY_S = 0.06
PAUSE = 2.0
"""Time without drawing, as a multiple of what the last drawing took: less often under load."""
_DOWNLOAD = """(text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "conversation.json";
  link.click();
  URL.revokeObjectURL(link.href);
}"""
# A narrow screen has no room for it beside the conversation.
_SIDE = """() => {
  if (window.innerWidth < 1100) return;
  document.querySelector(".sidebar:not(.open) .toggle-button")?.click();
}"""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def page(gateway: Gateway) -> None:
    """Lay the page out in the current Blocks, and wire it."""
    ChatPage(gateway).wire()


class ChatPage:
    """The components of one layout, and what happens when they are used.

    What belongs to one user is in `current` and `store`, which Gradio keeps apart by user.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.current = gr.State(Conversation())
        self.editing = gr.State(None)
        self.store = gr.BrowserState([], storage_key="safechat-conversations", secret="safechat")
        with gr.Sidebar(open=False, width=320):
            self.fresh = gr.Button("New conversation", variant="primary", size="sm")
            self.shelf = gr.Radio([], label="Conversations in this browser", elem_id="shelf")
            with gr.Row():
                self.export = gr.Button("Export as JSON", size="sm", min_width=80)
                self.delete = gr.Button("Delete", size="sm", variant="stop", min_width=80)
            self._settings()
        with gr.Column(elem_id="talk"):
            piece("<h1>SafeChat: chat</h1>", elem_classes="sr-only")
            self.chatbot = gr.Chatbot(
                show_label=False,
                label="Conversation",
                layout="bubble",
                scale=1,
                sanitize_html=True,
                allow_tags=False,
                feedback_options=None,
                buttons=[],
                placeholder=PLACEHOLDER,
                elem_id="conversation",
            )
            self.in_force = piece("", elem_id="in-force")
            self.box = gr.Textbox(
                placeholder="Write a message …",
                label="Your message",
                show_label=False,
                lines=1,
                max_lines=8,
                submit_btn=True,
                autofocus=True,
                elem_id="message",
            )
        self.act = piece("", visible="hidden", html_template="", js_on_load=asset("acts.js"))
        self.exported = gr.Textbox("", visible="hidden")

    def _settings(self) -> None:
        with gr.Accordion("Settings", open=False) as self.settings:
            self.preset = gr.Dropdown(list(PRESETS), value="None", label="Preset instruction")
            self.system = gr.Textbox(
                "",
                label="System prompt",
                lines=2,
                max_lines=6,
                placeholder="An instruction to keep to",
                elem_id="system",
            )
            self.model = gr.Dropdown([], label="Model", allow_custom_value=True)
            self.temperature = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
            self.max_tokens = gr.Slider(16, 2048, 512, step=16, label="Longest reply (tokens)")
            self.key = key_field(self.gateway)
        with gr.Accordion("Red team", open=False):
            gr.Markdown("Attack the model on purpose, and report the replies that got through.")
            self.red_team = [
                gr.Textbox("", label=label, max_length=longest, placeholder=words)
                for label, longest, words in RED_TEAM_FORM
            ]

    def wire(self) -> None:
        """Tell Gradio which function answers which event."""
        talk = [self.box, self.chatbot, self.current, self.settings]
        wish = [self.model, self.system, self.temperature, self.max_tokens, self.key]
        wish += self.red_team
        keep: dict[str, Any] = {
            "inputs": [self.current, self.store],
            "outputs": [self.store, self.shelf],
        }
        asked = self.box.submit(
            self.ask,
            [self.box, self.current, self.editing, *wish],
            [*talk, self.editing],
            **_QUIET,
        )
        asked.then(self.keep, **keep, **_QUIET)
        # Two steps: what the cancelled reply yielded last must be in before it is marked.
        acted = self.act.click(
            self.do,
            [self.act, self.current, *wish],
            [*talk, self.editing],
            **_QUIET,
        )
        acted.then(self.keep, **keep, **_QUIET)
        stopped = self.box.stop(None, cancels=[asked, acted], queue=False, api_visibility="private")
        stopped.then(self.stop, [self.current], talk, **_QUIET).then(self.keep, **keep, **_QUIET)
        opened = [*talk, self.system, self.editing]
        gr.on(
            [self.fresh.click],
            self.begin,
            None,
            [*opened, self.shelf],
            cancels=[asked, acted],
            queue=False,
            api_visibility="private",
        )
        self.shelf.input(
            self.open, [self.shelf, self.store], opened, cancels=[asked, acted], **_QUIET
        )
        self.delete.click(
            self.erase,
            [self.current, self.store, self.key],
            [*opened, self.store, self.shelf],
            cancels=[asked, acted],
            **_QUIET,
        )
        self.export.click(self.as_json, [self.current], [self.exported], **_QUIET).then(
            None, [self.exported], None, js=_DOWNLOAD, api_visibility="private"
        )
        self.key.blur(self.models, [self.key], [self.model], **_QUIET)
        self.preset.input(PRESETS.get, [self.preset], [self.system], **_QUIET)
        self.system.change(instruction_line, [self.system], [self.in_force], **_QUIET)
        page = gr.context.Context.root_block
        if page is None:
            raise RuntimeError("the chat page must be laid out inside Blocks")
        recall(self.key).then(self.models, [self.key], [self.model], **_QUIET)
        page.load(self.resume, [self.store, self.current], [*opened[1:], self.shelf], **_QUIET)
        page.load(None, None, None, js=_SIDE, api_visibility="private")

    async def models(self, api_key: str) -> Any:
        try:
            names = await self.gateway.models(api_key)
        except GatewayError:
            return gr.skip()
        return gr.Dropdown(choices=names, value=names[0] if names else None)

    async def ask(
        self, question: str, current: Conversation, editing: int | None, *wish: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Answer what is in the box; after `editing` in place of that turn and all later ones."""
        if not question.strip():
            yield (gr.skip(),) * 5
            return
        before = current.turns if editing is None else current.turns[:editing]
        async for states in self._answer(current, before, question.strip(), Wish.of(*wish)):
            yield *states, None

    async def do(self, act: str, current: Conversation, *wish: Any) -> AsyncIterator[Any]:
        """A button under a turn was used."""
        said = json.loads(act)
        number, kind = int(said["turn"]), str(said["act"])
        if number >= len(current.turns):
            yield (gr.skip(),) * 5
        elif kind == "edit":
            box = gr.Textbox(current.turns[number].question)
            yield box, gr.skip(), gr.skip(), gr.skip(), number
        elif kind == "retry":
            before, question = current.turns[:number], current.turns[number].question
            async for states in self._answer(current, before, question, Wish.of(*wish)):
                yield *states, None
        else:
            now = await self._feedback(current, number, kind, said["text"], Wish.of(*wish).api_key)
            yield gr.skip(), view(now.turns), now, gr.skip(), gr.skip()

    async def _answer(
        self, current: Conversation, before: Sequence[Turn], question: str, wish: Wish
    ) -> AsyncIterator[tuple[Any, Any, Any, Any]]:
        """Box, chatbot, conversation and settings again and again as the reply arrives."""
        asked = Turn(question, waiting="One moment …", instruction=wish.instruction)
        now = replace(current, turns=(*before, asked))
        yield gr.Textbox("", submit_btn=False, stop_btn=True), view(now.turns), now, gr.skip()
        drawn, took = time.monotonic(), 0.0
        async for turn in answered(self.gateway, now, wish):
            now = replace(current, turns=(*before, turn))
            begun = time.monotonic()
            if begun - drawn >= max(DRAW_EVERY_S, PAUSE * took):
                yield gr.skip(), view(now.turns), now, gr.skip()
                drawn = time.monotonic()
                took = drawn - begun
        settings = gr.Accordion(open=True) if now.turns[-1].needs_key else gr.skip()
        yield gr.Textbox(submit_btn=True, stop_btn=False), view(now.turns), now, settings

    async def _feedback(
        self, current: Conversation, number: int, kind: str, text: str, api_key: str
    ) -> Conversation:
        turn = current.turns[number]
        if turn.verdict is None:
            return current
        body = {"turn_id": turn.verdict.turn_id, "kind": kind, "text": text.strip() or None}
        sent = {name: value for name, value in body.items() if value is not None}
        try:
            await self.gateway.ask("POST", "/v1/feedback", api_key=api_key, body=sent)
        except GatewayError as error:
            gr.Warning(str(error))
            return current
        turns = list(current.turns)
        turns[number] = turn.feedback(kind)
        return replace(current, turns=tuple(turns))

    def stop(self, current: Conversation) -> tuple[Any, ...]:
        turns = current.turns
        if turns and turns[-1].verdict is None:
            turns = (*turns[:-1], replace(turns[-1], waiting="", problem=STOPPED))
        now = replace(current, turns=turns)
        return gr.Textbox(submit_btn=True, stop_btn=False), view(turns), now, gr.skip()

    def keep(self, current: Conversation, store: object) -> tuple[Any, Any]:
        others = [c for c in read(store) if c.id != current.id]
        conversations = [current, *others] if current.turns else others
        return kept(conversations), _listed(conversations, current)

    def resume(self, store: object, begun: Conversation) -> tuple[Any, ...]:
        """Go on with what the browser has kept, unless somebody was quicker and has asked."""
        if begun.turns:
            return (gr.skip(),) * 6
        conversations = read(store)
        current = conversations[0] if conversations else Conversation()
        # The box is left alone: somebody may be typing by now.
        return *_shown(current)[1:], _listed(conversations, current)

    def begin(self) -> tuple[Any, ...]:
        return *_shown(Conversation()), gr.Radio(value=None)

    def open(self, name: str, store: object) -> tuple[Any, ...]:
        found = (c for c in read(store) if c.id == name)
        return _shown(next(found, Conversation()))

    async def erase(self, current: Conversation, store: object, api_key: str) -> tuple[Any, ...]:
        """Here and, where the gateway keeps a journal, there."""
        if current.turns:
            try:
                path = f"/v1/conversations/{current.id}"
                await self.gateway.ask("DELETE", path, api_key=api_key)
            except GatewayError as error:
                if error.code not in ("no_journal", "unknown_conversation"):
                    gr.Warning(f"It is still on the server. {error}")
                    return (gr.skip(),) * 8
        others = [c for c in read(store) if c.id != current.id]
        begun = Conversation()
        return *_shown(begun), kept(others), _listed(others, begun)

    def as_json(self, current: Conversation) -> str:
        return json.dumps(written(current), indent=2, ensure_ascii=False)


def _listed(conversations: Sequence[Conversation], current: Conversation) -> Any:
    choices = [(c.title, c.id) for c in conversations]
    chosen = current.id if any(c.id == current.id for c in conversations) else None
    return gr.Radio(choices=choices, value=chosen)


def _shown(current: Conversation) -> tuple[Any, ...]:
    """Box, chatbot, conversation, settings, system prompt and what is edited, when it opens."""
    instruction = current.turns[-1].instruction if current.turns else ""
    box = gr.Textbox("", submit_btn=True, stop_btn=False)
    return box, view(current.turns), current, gr.skip(), instruction, None
