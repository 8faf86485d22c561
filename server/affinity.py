"""Which requests had better reach the same engine, where several stand behind a router.

An engine keeps what it computed of a prompt, and a later prompt that begins alike takes it from
there. So a conversation should stay with one engine as long as its window begins with the same
turn, and needs no name for that: its beginning is its name.
"""

from hashlib import blake2b
from typing import Any, Final

import orjson

SESSION_HEADER: Final = "x-session-id"
"""What vllm-router's policies with session affinity look at first."""


def session_of(body: dict[str, Any]) -> str:
    """A name for the beginning of a chat request's prompt, up to its first user message.

    32 hexadecimal digits, which tell nothing of the text to whoever reads them in a log.
    """
    beginning = []
    for message in body["messages"]:
        beginning.append(message)
        if message["role"] == "user":
            break
    return blake2b(orjson.dumps(beginning), digest_size=16).hexdigest()
