"""`POST /get_reward`: the guard as the reward model of an RLHF trainer.

The wire is that of OpenRLHF's remote reward model: `{"query": [...], "prompts": [...]}` in, each
query a prompt and a reply in the model's chat format, and `{"rewards": [...]}` out. The reward
is the paper's (Llama 2, §3.2.3): the logit of safety where the prompt is adversarial or the
reply unsafe, of helpfulness otherwise. Whitening and the KL term are the trainer's.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from guard.combined import UNSAFE_BELOW, combined_reward, logit
from guard.types import Message, Sample
from server.errors import InvalidRequest
from server.gateway import gateway_of
from server.judging import judge_all
from server.rlhf_text import conversation_of
from server.settings import Scope

router = APIRouter(tags=["training"])


class RewardRequest(BaseModel):
    """labels: what the trainer's data says of each prompt, where it is `adversarial` or
    `harmless`; of other prompts the guard decides that itself.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    query: list[str] = Field(min_length=1)
    prompts: list[str] | None = None
    labels: list[Any] | None = None

    @model_validator(mode="after")
    def _is_even(self) -> "RewardRequest":
        for name, beside in (("prompts", self.prompts), ("labels", self.labels)):
            if beside is not None and len(beside) != len(self.query):
                raise ValueError(f"{len(self.query)} queries, but {len(beside)} {name}")
        return self


@router.post("/get_reward")
async def get_reward(request: Request, body: RewardRequest) -> dict[str, Any]:
    """Rewards of replies, in the form that OpenRLHF's remote reward model has."""
    gateway = gateway_of(request)
    gateway.auth.require(request.headers.get("authorization"), Scope.CHAT)
    gateway.limits.check_batch(len(body.query), "query")
    prompts: list[str] | list[None] = body.prompts or [None] * len(body.query)
    conversations = [
        _conversation(i, query, prompt)
        for i, (query, prompt) in enumerate(zip(body.query, prompts, strict=True))
    ]
    replies, asked = await asyncio.gather(
        judge_all(gateway.guard, [Sample(c[:-1], c[-1].text, whole=True) for c in conversations]),
        judge_all(gateway.guard, [Sample(c[:-1]) for c in conversations]),
    )
    threshold = gateway.settings.guard.prompt.threshold
    scores = []
    for i, (reply, prompt) in enumerate(zip(replies, asked, strict=True)):
        assert reply.helpfulness is not None
        label = body.labels[i] if body.labels else None
        known = label in ("adversarial", "harmless")
        adversarial = label == "adversarial" if known else prompt.safety.value < threshold
        safety, helpfulness = reply.safety.value, reply.helpfulness.value
        scores.append(combined_reward(safety, helpfulness, adversarial=adversarial))
    unsafe = sum(reply.safety.value < UNSAFE_BELOW for reply in replies) / len(replies)
    means = {
        "safety": sum(r.safety.value for r in replies) / len(replies),
        "unsafe": unsafe,
        "reward": sum(scores) / len(scores),
    }
    return {"rewards": [logit(s) for s in scores], "scores": scores, "extra_logs": means}


def _conversation(index: int, query: str, prompt: str | None) -> tuple[Message, ...]:
    try:
        return conversation_of(query, prompt)
    except ValueError as error:
        raise InvalidRequest(str(error), param=f"query[{index}]", code="invalid_value") from None
