"""Text of strangers, and conversations that a browser gives back."""

import json

import pytest

from ui.text import harmless
from ui.turns import MOST_CHARACTERS, MOST_CONVERSATIONS, Conversation, Turn, kept, read


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("![a](http://evil.example/a.png)", r"!\[a](http://evil.example/a.png)"),
        ("in `<b>` code", "in `<b>` code"),
        ("```html\n<img>\n```\n<img>", "```html\n<img>\n```\n&lt;img>"),
        ("    ```\n<img>", "    ```\n&lt;img>"),
        ("1 < 2 and **bold**", "1 &lt; 2 and **bold**"),
    ],
)
def test_html_and_images_stay_as_they_were_written(written: str, shown: str) -> None:
    assert harmless(written) == shown


def test_a_conversation_comes_back_as_it_was_kept() -> None:
    turns = (Turn("Why?", "Because.", said=("thumbs_up",), instruction="Be brief."),)
    conversation = Conversation("one", turns)
    assert read(json.loads(json.dumps(kept([conversation])))) == [conversation]


def test_the_newest_conversations_are_kept_as_far_as_there_is_room() -> None:
    many = [Conversation(str(n), (Turn("Why?"),)) for n in range(MOST_CONVERSATIONS + 5)]
    assert [row["id"] for row in kept(many)] == [str(n) for n in range(MOST_CONVERSATIONS)]
    long = [Conversation(n, (Turn("Why?", "x" * (MOST_CHARACTERS // 2)),)) for n in "abc"]
    assert [row["id"] for row in kept(long)] == ["a"]


@pytest.mark.parametrize("rows", [None, "nonsense", [{}], [{"id": 1}], [{"id": 1, "turns": [7]}]])
def test_what_cannot_be_read_is_left_out(rows: object) -> None:
    assert read(rows) == []


def test_of_two_thumbs_the_later_one_holds() -> None:
    turn = Turn("Why?").feedback("thumbs_up").feedback("report").feedback("thumbs_down")
    assert turn.said == ("report", "thumbs_down")
