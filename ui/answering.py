"""One turn of the chat page, from the question to the verdict or to what went wrong."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from ui.gateway import BROKEN_OFF, Gateway, GatewayError, NotReadyError, Verdict
from ui.turns import Conversation, Turn, messages

RED_TEAM = ("red_team", "red_team_goal", "red_team_category", "red_team_vector")
"""The form of a red-team session, by the API's keys."""
KEY_CODES = frozenset({"missing_api_key", "invalid_api_key"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user set for the next reply. model: None takes the first that is served."""

    model: str | None
    instruction: str
    temperature: float
    max_tokens: int
    api_key: str
    red_team: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: str | None,
        instruction: str | None,
        temperature: float,
        max_tokens: float,
        api_key: str | None,
        *red_team: str | None,
    ) -> "Wish":
        """From the values of the page's fields, which are None where they are empty."""
        return cls(
            model,
            (instruction or "").strip(),
            temperature,
            int(max_tokens),
            api_key or "",
            marked(*red_team),
        )


def marked(*fields: str | None) -> dict[str, str]:
    """The form of a red-team session as metadata; empty without the name of a session."""
    said = zip(RED_TEAM, fields, strict=False)
    found = {key: text.strip() for key, text in said if text and text.strip()}
    return found if "red_team" in found else {}


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
        red_team=wish.red_team,
        api_key=wish.api_key,
    )
