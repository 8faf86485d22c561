"""The network that PPO trains: a chat model under LoRA with a value head, and its reference.

The reference is the same network with its adapter turned off, or with the adapter that the run
went on from, so it costs next to no memory. The value head reads the last hidden state, of which
it learns alone: its gradient does not reach the body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flywheel.training.chat.files import Messages
from flywheel.training.chat.tokens import render

TRAINED, REFERENCE = "default", "reference"


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sampled replies. ids, attended: (batch, prompt + reply), prompts padded on the left.

    mask: (batch, reply), 1 on the reply's tokens, its end included.
    """

    ids: Tensor
    attended: Tensor
    mask: Tensor
    texts: list[str]

    def rows(self, chosen: slice) -> "Rollout":
        return Rollout(
            self.ids[chosen], self.attended[chosen], self.mask[chosen], self.texts[chosen]
        )


class Policy(nn.Module):
    """network: a PEFT model with one adapter. start: the folder that it was loaded from, if any."""

    def __init__(self, network: Any, *, start: Path | None = None) -> None:
        super().__init__()
        self.network = network
        self._began_with_adapter = start is not None
        if start is not None:
            network.load_adapter(start, adapter_name=REFERENCE, is_trainable=False)
        width = network.config.hidden_size
        self.value = nn.Linear(width, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, rollout: Rollout, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values of the reply's tokens, each (batch, reply)."""
        length = rollout.mask.shape[1]
        positions = (rollout.attended.cumsum(1) - 1).clamp(min=0)
        out = self.network(
            input_ids=rollout.ids,
            attention_mask=rollout.attended,
            position_ids=positions,
            output_hidden_states=True,
            use_cache=False,
        )
        # The state before a token is what predicts it.
        logits = out.logits[:, -length - 1 : -1].float() / temperature
        logp = torch.log_softmax(logits, -1).gather(-1, rollout.ids[:, -length:, None]).squeeze(-1)
        states = out.hidden_states[-1][:, -length - 1 : -1].detach()
        values = self.value(states.to(self.value.weight.dtype)).squeeze(-1)
        return logp * rollout.mask, values * rollout.mask

    @torch.no_grad()
    def reference(self, rollout: Rollout, temperature: float) -> Tensor:
        """Log-probabilities of the model as it was before PPO."""
        if not self._began_with_adapter:
            with self.network.disable_adapter():
                logp: Tensor = self(rollout, temperature)[0]
            return logp
        self.network.set_adapter(REFERENCE)
        logp = self(rollout, temperature)[0]
        self.network.set_adapter(TRAINED)
        return logp

    def without_reference(self) -> Any:
        """The network as it is saved; nothing can be trained after that."""
        if self._began_with_adapter:
            self.network.delete_adapter(REFERENCE)
        return self.network

    @torch.no_grad()
    def sample(
        self, tokenizer: Any, prompts: Sequence[Messages], *, tokens: int, temperature: float
    ) -> Rollout:
        """One reply to each prompt; temperature 0 takes the likeliest token each time."""
        device = self.value.weight.device
        texts = [render(tokenizer, messages, reply=True) for messages in prompts]
        tokenizer.padding_side = "left"
        asked = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        asked = asked.to(device)
        how: dict[str, Any] = {"do_sample": False}
        if temperature:
            how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        ids = self.network.generate(
            input_ids=asked["input_ids"],
            attention_mask=asked["attention_mask"],
            max_new_tokens=tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **how,
        )
        replies = ids[:, asked["input_ids"].shape[1] :]
        ended = (replies == tokenizer.eos_token_id).long()
        mask = (ended.cumsum(1) - ended == 0).long()  # up to the first end, itself included
        attended = torch.cat([asked["attention_mask"], mask], 1)
        said = [
            tokenizer.decode(row[keep.bool()], skip_special_tokens=True).strip()
            for row, keep in zip(replies, mask, strict=True)
        ]
        return Rollout(ids, attended, mask, said)
