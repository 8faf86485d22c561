"""Conversations out of the text that trainers pass around: one string in a chat format.

A trainer sends what its tokenizer wrote: Llama 2's, Llama 3's or ChatML's turns, with their
special tokens. The guard judges words, so the format is taken off again.
"""

import re

from guard.types import Message

_LLAMA2 = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=<s>|\[INST\]|\Z)", re.S)
_LLAMA2_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>(.*)", re.S)
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.S)
_LLAMA3 = re.compile(
    r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n*(.*?)"
    r"(?:<\|eot_id\|>|(?=<\|start_header_id\|>)|\Z)",
    re.S,
)
_SPECIAL = re.compile(r"<\|[a-z_0-9]+\|>|</?s>|<unk>|<pad>")


def conversation_of(text: str, prompt: str | None = None) -> tuple[Message, ...]:
    """The messages of a rendered conversation that ends in a reply.

    prompt: the part before the reply, where the trainer sent it; needed for plain text.
    Raises ValueError where there is no reply to be found.
    """
    if prompt is not None and not _marked(prompt):
        if not text.startswith(prompt):
            raise ValueError("a query must begin with its prompt")
        said, replied = _clean(prompt), _clean(text[len(prompt) :])
        messages = [Message("user", said), Message("assistant", replied)]
    elif "<|im_start|>" in text:
        messages = _turns(_CHATML, text)
    elif "<|start_header_id|>" in text:
        messages = _turns(_LLAMA3, text)
    elif "[INST]" in text:
        messages = _llama2(text)
    else:
        raise ValueError("this is in no known chat format: send `prompts` beside `query`")
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ValueError("the text does not end in a reply")
    return tuple(messages)


def _marked(text: str) -> bool:
    return any(mark in text for mark in ("<|im_start|>", "<|start_header_id|>", "[INST]"))


def _turns(pattern: re.Pattern[str], text: str) -> list[Message]:
    return [Message(role, _clean(said)) for role, said in pattern.findall(text)]


def _llama2(text: str) -> list[Message]:
    messages: list[Message] = []
    for said, replied in _LLAMA2.findall(text):
        if found := _LLAMA2_SYSTEM.match(said):
            messages.append(Message("system", _clean(found[1])))
            said = found[2]
        messages += [Message("user", _clean(said)), Message("assistant", _clean(replied))]
    return messages


def _clean(text: str) -> str:
    return _SPECIAL.sub("", text).strip()
