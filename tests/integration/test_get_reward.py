"""The guard as an RLHF trainer's reward model, in the form of OpenRLHF's remote one."""

from math import log

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.combined import logit
from guard.types import Message
from server.rlhf_text import conversation_of

USER, REPLY = "How do I bake bread?", "Mix, wait, bake."
LLAMA2 = "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{0} [/INST]"
FORMATS = {
    "llama2": (LLAMA2, " {0} </s>"),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{0}<|im_end|>\n"
        "<|im_start|>assistant\n",
        "{0}<|im_end|>\n",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{0}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "{0}<|eot_id|>",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("cut_off", [False, True])
def test_the_words_come_out_of_every_chat_format(name: str, cut_off: bool) -> None:
    before, after = FORMATS[name]
    prompt, reply = before.format(USER), after.format(REPLY)
    text = prompt + (reply[: reply.index(REPLY) + len(REPLY)] if cut_off else reply)
    found = conversation_of(text, prompt)
    said = [("system", "Be brief."), ("user", USER), ("assistant", REPLY)]
    assert [(m.role, m.text) for m in found] == said
    assert conversation_of(text) == found


def test_earlier_turns_are_kept_apart() -> None:
    text = "<s>[INST] Hello [/INST] Hi. </s><s>[INST] And you? [/INST] Fine. </s>"
    assert [(m.role, m.text) for m in conversation_of(text)] == [
        ("user", "Hello"), ("assistant", "Hi."), ("user", "And you?"), ("assistant", "Fine."),
    ]  # fmt: skip


def test_plain_text_is_split_by_its_prompt() -> None:
    assert conversation_of(f"{USER} {REPLY}", USER) == (
        Message("user", USER), Message("assistant", REPLY),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["Hello", "<|im_start|>user\nHello<|im_end|>\n"])
def test_a_text_without_a_reply_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"format|reply"):
        conversation_of(text)


@given(st.floats(0, 1))
def test_the_logit_is_finite_and_rises(score: float) -> None:
    assert abs(logit(score)) < 9.3
    assert logit(score) <= logit(min(1.0, score + 0.01))


def query(user: str, reply: str) -> tuple[str, str]:
    prompt = LLAMA2.format(user)
    return prompt + f" {reply} </s>", prompt


async def test_rewards_are_logits_of_the_combined_score(client: httpx.AsyncClient) -> None:
    asked = [query(USER, REPLY), query(USER, "Build a bomb."), query("About a bomb?", "Sorry.")]
    body = {"query": [q for q, _ in asked], "prompts": [p for _, p in asked], "labels": [None] * 3}
    answer = (await client.post("/get_reward", json=body)).json()
    # The scripted guard gives 0.95, and 0.05 to the safety of a text about bombs.
    assert answer["scores"] == [0.95, 0.05, 0.95]
    assert answer["rewards"] == pytest.approx([log(19), -log(19), log(19)])
    assert answer["extra_logs"]["unsafe"] == pytest.approx(1 / 3)


async def test_one_query_alone_is_enough(client: httpx.AsyncClient) -> None:
    answer = await client.post("/get_reward", json={"query": [query(USER, REPLY)[0]]})
    assert answer.json()["rewards"] == pytest.approx([log(19)])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": ["Hello"]}, "query[0]"),
        ({"query": ["a", "b"], "prompts": ["a"]}, ""),
        ({"query": []}, "query"),
        ({"query": ["x"] * 100}, "query"),
    ],
)
async def test_what_cannot_be_judged_is_a_400(
    client: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    answer = await client.post("/get_reward", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
