"""The reward network: a pretrained encoder, LoRA on its linear layers, one logit a stage.

A window's features are its [CLS] state beside the mean state of the judged tokens, that is
of the reply if there is one and of the whole window otherwise. A linear head reads one
logit for each stage from them: high is good (a harmless request, a good reply).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel

from flywheel.training.bodies import MINILM, Body

STAGES = ("prompt", "response")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Rank and scale of the adapter; its product is scaled by alpha / rank.

    first_layer: the layers below it stay as they are, and cost no backward pass.
    """

    rank: int = 32
    alpha: int = 64
    first_layer: int = 0


def _pretrained(body: Body) -> Any:
    # Dropout costs half of the training speed on a CPU, and an adapter overfits little.
    with body.files() as folder:
        return AutoModel.from_pretrained(
            folder,
            add_pooling_layer=False,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )


class RewardNetwork(nn.Module):
    """Token windows in, one logit a stage out."""

    def __init__(
        self,
        kind: Body,
        body: nn.Module,
        width: int,
        settings: LoraSettings,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.settings = settings
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, len(STAGES))
        nn.init.zeros_(self.head.bias)

    @classmethod
    def for_training(cls, settings: LoraSettings, kind: Body = MINILM) -> "RewardNetwork":
        """A fresh head and adapter on the frozen body."""
        body = _pretrained(kind)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(kind.adapted),
            layers_to_transform=list(range(settings.first_layer, kind.layers)),
            layers_pattern="layer",
        )
        return cls(kind, get_peft_model(body, config), body.config.hidden_size, settings)

    def forward(self, ids: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        """ids, segments, mask: int64 of shape (batch, length); mask is 0 on padding.

        Returns logits of shape (batch, 2), in the order of STAGES.
        """
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.kind.token_types:
            inputs["token_type_ids"] = segments
        states = self.body(**inputs).last_hidden_state
        logits: Tensor = self.head(self.dropout(pool(states, segments, mask)))
        return logits

    def save(self, path: Path) -> None:
        """Writes adapter and head as float16 safetensors."""
        assert isinstance(self.body, PeftModel)
        tensors = {f"lora.{k}": v for k, v in get_peft_model_state_dict(self.body).items()}
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        write_adapter(path, tensors)

    def describe(self, folder: Path, **fields: object) -> None:
        """Writes model.json beside the saved adapter: what it is, and how to read it."""
        write_card(folder, {"base": self.kind.name, "lora": asdict(self.settings), **fields})

    def load(self, path: Path) -> None:
        """Reads what `save` wrote into a network made with the same settings."""
        tensors = {k: v.float() for k, v in load_file(path).items()}
        head = {k.removeprefix("head."): v for k, v in tensors.items() if k.startswith("head.")}
        lora = {k.removeprefix("lora."): v for k, v in tensors.items() if k.startswith("lora.")}
        self.head.load_state_dict(head)
        outcome: Any = set_peft_model_state_dict(self.body, lora)
        if outcome.unexpected_keys:
            raise ValueError(f"{path} does not fit the adapter: {outcome.unexpected_keys[:3]}")


def write_adapter(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors as float16 safetensors that everybody may read."""
    save_file({k: v.detach().half().contiguous() for k, v in tensors.items()}, path)
    path.chmod(0o644)  # safetensors writes for the owner alone


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Writes model.json with the digest of the adapter that lies beside it."""
    adapter = (folder / "adapter.safetensors").read_bytes()
    told = {**card, "sha256": hashlib.sha256(adapter).hexdigest()}
    (folder / "model.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def pool(states: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
    """[CLS] state beside the mean of the judged tokens: (batch, length, d) to (batch, 2d)."""
    has_reply = segments.amax(dim=1, keepdim=True)
    judged = (segments + (1 - has_reply) * mask).unsqueeze(-1).to(states.dtype)
    mean = (states * judged).sum(dim=1) / judged.sum(dim=1)
    return torch.cat([states[:, 0], mean], dim=1)
