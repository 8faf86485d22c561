"""A chat page that opens while somebody already asks."""

import gradio as gr

from ui.chat import ChatPage
from ui.turns import Conversation, Turn, kept

OLD = Conversation("old", (Turn("What was before?", "Much."),))
# Without a layout: what is asked of it here needs none.
PAGE = ChatPage.__new__(ChatPage)


def test_a_page_goes_on_with_the_newest_conversation_of_the_browser() -> None:
    _, current, *_ = PAGE.resume(kept([OLD]), Conversation())
    assert current == OLD


def test_a_question_asked_before_that_is_not_taken_away() -> None:
    begun = Conversation("new", (Turn("And now?"),))
    assert PAGE.resume(kept([OLD]), begun) == (gr.skip(),) * 6
