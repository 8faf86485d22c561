"""Which tokens a chat model learns: replies, and for Ghost Attention the last one alone."""

from pathlib import Path
from typing import Any

import pytest

from flywheel.training.chat import base
from flywheel.training.chat.stage import StageError
from flywheel.training.chat.tokens import IGNORED, Encoded, encode
from server.engine_command import LLAMA2_TEMPLATE
from tests.fakes.tiny_llama import build_tiny_llama

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = {"role": "system", "content": "Answer in one short line."}
TURNS = [
    {"role": "user", "content": "What is the capital of Peru?"},
    {"role": "assistant", "content": "Lima."},
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "Mix, wait, bake."},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(params=["llama2", "chatml"])
def tokenizer(model: Path, request: pytest.FixtureRequest) -> Any:
    found = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    if request.param == "chatml":
        found.chat_template = CHATML
    return found


def learnt(tokenizer: Any, row: Encoded) -> str:
    return str(tokenizer.decode([label for label in row.labels if label != IGNORED]))


def test_a_completion_is_learnt_alone_and_earlier_turns_not_at_all(tokenizer: Any) -> None:
    row = encode(tokenizer, {"prompt": [SYSTEM, *TURNS[:3]], "completion": TURNS[3:]})
    text = learnt(tokenizer, row)
    assert "Mix, wait, bake." in text
    assert "Lima" not in text
    assert "capital" not in text
    first = next(i for i, label in enumerate(row.labels) if label != IGNORED)
    assert all(label == IGNORED for label in row.labels[:first])
    assert row.labels[first:] == row.ids[first:]  # to the end, the end of the turn included


def test_messages_are_learnt_on_every_reply_and_on_nothing_of_the_user(tokenizer: Any) -> None:
    text = learnt(tokenizer, encode(tokenizer, {"messages": [SYSTEM, *TURNS]}))
    assert "Lima." in text
    assert "Mix, wait, bake." in text
    assert "Peru" not in text
    assert "bread" not in text
    assert "short line" not in text


def test_the_end_of_a_reply_is_learnt_so_that_the_model_stops(model: Path) -> None:
    tokenizer = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    row = encode(tokenizer, {"prompt": TURNS[:1], "completion": TURNS[1:2]})
    assert row.labels[-1] == tokenizer.eos_token_id
    assert row.ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": TURNS[:1]}, "a row needs"),
        ({"prompt": TURNS[:1], "completion": TURNS[2:3]}, "the assistant's words"),
        ({"prompt": TURNS[:1], "completion": [{"role": "assistant", "content": " "}]}, "no reply"),
        ({"messages": "hello"}, "a row needs"),
    ],
)
def test_a_row_of_another_shape_is_refused(tokenizer: Any, row: Any, why: str) -> None:
    with pytest.raises(StageError, match=why):
        encode(tokenizer, row)


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(StageError, match="template that only appends"):
        encode(tokenizer, {"messages": TURNS})


def test_a_model_without_a_chat_template_is_refused(model: Path) -> None:
    with pytest.raises(StageError, match="--template"):
        base.load_tokenizer(model)


def test_a_tokenizer_of_another_model_is_refused(model: Path) -> None:
    tokenizer = base.load_tokenizer(model, LLAMA2_TEMPLATE)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(9)])
    with pytest.raises(StageError, match="another model's tokenizer"):
        base.load_chat_model(model, tokenizer)
