"""Which requests go to the same engine, where several stand behind a router."""

from typing import Any

from server.affinity import session_of


def body(*contents: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": [*first, *turns], **more}


def test_a_conversation_keeps_its_session_as_it_grows() -> None:
    assert session_of(body("a", "b", "c")) == session_of(body("a", temperature=0.5))
    assert session_of(body("a", "b", system="s")) == session_of(body("a", system="s"))


def test_another_beginning_is_another_session() -> None:
    sessions = {session_of(body(text, system=s)) for text in ("a", "b") for s in ("s", "t", None)}
    assert len(sessions) == 6


def test_the_name_tells_nothing_of_the_text() -> None:
    name = session_of(body("my secret"))
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
