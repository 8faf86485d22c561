"""One item asked, turn by turn, and everything scored by a guard."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from flywheel.evaluation.runs.answers import Row
from flywheel.evaluation.runs.endpoint import Endpoint, Reply, Scored
from flywheel.evaluation.runs.items import Item


class Turn(BaseModel, frozen=True):
    """One exchange.

    asked, reply: the user's words, and all that the client got. blocked: by a guard.
    prompt_safety: of the conversation before the reply. safety, helpfulness, refusal, hazard: of
    what the model wrote of the reply, None where it wrote nothing; scores in [0, 1], higher is
    better. turn_id: by which a gateway knows it.
    """

    asked: str
    reply: str
    blocked: bool
    turn_id: str | None = None
    prompt_safety: float
    safety: float | None = None
    helpfulness: float | None = None
    refusal: str | None = None
    hazard: str | None = None

    @property
    def answered(self) -> bool:
        """Whether the reply tries to do what was asked, however well."""
        return self.refusal == "compliance" and not self.blocked

    @property
    def refused(self) -> str | None:
        """`full` or `partial` where the reply refuses or was blocked, else None."""
        if self.blocked:
            return "full"
        return self.refusal if self.refusal in ("full", "partial") else None


async def play(
    item: Item, target: Endpoint, guard: Endpoint, metadata: Mapping[str, str] | None = None
) -> Row:
    """Have the conversation. A blocked turn is left out of what follows, as clients do.

    Raises EndpointFailed, ItemRefused.
    """
    said: list[dict[str, str]] = [message.model_dump() for message in item.history]
    turns, models = [], list[str]()
    for asked in item.turns:
        before = [*said, {"role": "user", "content": asked}]
        reply = await target.chat(before, metadata=metadata)
        after = [*before, {"role": "assistant", "content": reply.text}]
        [prompt] = await guard.score([before])
        scored = await guard.score_reply(before, reply.by_model)
        models = (scored or prompt).models
        turns.append(_turn(asked, reply, prompt, scored))
        if not reply.blocked:
            said = after
    return {"turns": [turn.model_dump() for turn in turns], "models": models}


def turns_of(row: Row) -> list[Turn]:
    """The turns of a kept row."""
    return [Turn.model_validate(turn) for turn in row["turns"]]


def conversation(item: Item, row: Row) -> list[dict[str, Any]]:
    """All that was said, blocked turns among it."""
    return [*(message.model_dump() for message in item.history), *_exchanged(turns_of(row))]


def _exchanged(turns: list[Turn]) -> Iterator[dict[str, str]]:
    for turn in turns:
        yield {"role": "user", "content": turn.asked}
        yield {"role": "assistant", "content": turn.reply}


def _turn(asked: str, reply: Reply, prompt: Scored, scored: Scored | None) -> Turn:
    turn = Turn(
        asked=asked,
        reply=reply.text,
        blocked=reply.blocked,
        turn_id=reply.turn_id,
        prompt_safety=prompt.safety,
    )
    if scored is None:
        return turn
    return turn.model_copy(
        update={
            "safety": scored.safety,
            "helpfulness": scored.helpfulness,
            "refusal": scored.refusal,
            "hazard": scored.hazard,
        }
    )
