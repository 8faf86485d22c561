"""Versions of models that the flywheel made, and when a new one may go live."""

from pathlib import Path

from pydantic import Field

from flywheel.registry.gate import Margins
from flywheel.registry.promotion import Rules
from server.settings.section import Section


class RegistrySettings(Section):
    """Versions of models that the flywheel made. Without a folder, none are served."""

    folder: Path | None = None
    poll_s: float = Field(2.0, gt=0, description="how soon a switch is noticed")
    max_lora_rank: int = Field(16, ge=1, description="of adapters, for an engine that we start")
    shadow_share: float = Field(
        0.1, ge=0, le=1, description="share of the turns that the version in shadow answers too"
    )


class PromotionSettings(Section):
    """By how much a new version may be worse, at the unfavourable end of a 95 % interval."""

    violation: float = Field(0.01, ge=0, le=1)
    false_refusal: float = Field(0.02, ge=0, le=1)
    helpfulness: float = Field(0.02, ge=0, le=1)
    benchmark: float = Field(0.05, ge=0, le=1, description="of each benchmark of a chat version")
    items: int = Field(100, ge=1, description="fewest items that both versions were measured on")
    shadow_turns: int = Field(200, ge=0, description="mirrored turns before it goes live; 0: none")

    def rules(self) -> Rules:
        margins = Margins(
            violation=self.violation,
            false_refusal=self.false_refusal,
            helpfulness=self.helpfulness,
            benchmark=self.benchmark,
            items=self.items,
        )
        return Rules(margins, self.shadow_turns)
