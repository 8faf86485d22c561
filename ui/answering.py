"""One turn of the chat page, from the question to the verdict or to what went wrong."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from ui.gateway import BROKEN_OFF, Gateway, GatewayError, NotReadyError, Verdict
from ui.turns import Conversation, Turn, messages

KEY_CODES = frozenset({"missing_api_key", "invalid_api_key"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user set for the next reply. model: None takes the first that is served."""

    model: str | None
    instruction: str
    temperature: float
    max_tokens: int
    api_key: str

    @classmethod
    def of(
        cls,
        model: str | None,
        instruction: str | None,
        temperature: float,
        max_tokens: float,
        api_key: str | None,
    ) -> "Wish":
        """From the values of the page's fields, which are None where they are empty."""
        return cls(model, (instruction or "").strip(), temperature, int(max_tokens), api_key or "")


async def answered(gateway: Gateway, conversation: Conversation, wish: Wish) -> AsyncIterator[Turn]:
    """The last turn again and again as its reply arrives; a failure is its last state."""
    turn = conversation.turns[-1]
    begun = time.monotonic()
    try:
        while True:
            try:
                async for piece in await _pieces(gateway, conversation, wish):
                    passed = round(1000 * (time.monotonic() - begun))
                    if isinstance(piece, Verdict):
                        turn = replace(turn, verdict=piece, waiting="", all_ms=passed)
                    else:
                        first = passed if turn.first_ms is None else turn.first_ms
                        text = turn.reply + piece
                        turn = replace(turn, reply=text, waiting="", first_ms=first)
                    yield turn
                if turn.verdict is None:
                    raise GatewayError(BROKEN_OFF)
                return
            except NotReadyError:
                async for _ in gateway.until_ready():
                    yield replace(turn, waiting="The model is still starting. Retrying …")
    except GatewayError as error:
        yield replace(turn, waiting="", problem=str(error), needs_key=error.code in KEY_CODES)


async def _pieces(
    gateway: Gateway, conversation: Conversation, wish: Wish
) -> AsyncIterator[str | Verdict]:
    model = wish.model or next(iter(await gateway.models(wish.api_key)), "")
    return gateway.reply(
        messages(conversation.turns, wish.instruction),
        model=model,
        temperature=wish.temperature,
        max_tokens=wish.max_tokens,
        conversation_id=conversation.id,
        api_key=wish.api_key,
    )
