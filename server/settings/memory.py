"""What is remembered of turns, and how people review it."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from flywheel.journal import DAY_S, JournalOptions, Keep, first_come
from flywheel.records import TurnRecord
from flywheel.redaction import Redactor
from server.settings.section import Section


class OnJournalFailure(StrEnum):
    """`refuse`: a turn that cannot be recorded fails; `serve`: it is counted and served."""

    SERVE = "serve"
    REFUSE = "refuse"


class JournalSettings(Section):
    """What is remembered of turns, where, and for how long."""

    enabled: bool = True
    folder: Path = Path(".var/journal")
    keep: Keep = Keep.FLAGGED
    sample: float = Field(0.0, ge=0, le=1, description="share of unflagged turns to keep")
    grace_hours: float = Field(24.0, ge=0)
    max_age_days: float | None = Field(None, gt=0)
    max_bytes: int | None = Field(None, ge=1_000_000)
    redact: bool = False
    redact_regions: tuple[str, ...] = ()
    on_failure: OnJournalFailure = OnJournalFailure.SERVE

    def options(self, priority: Callable[[TurnRecord], float] = first_come) -> JournalOptions:
        """priority: of a flagged turn in the review queue, in [0, 1]."""
        return JournalOptions(
            priority=priority,
            keep=self.keep,
            sample=self.sample,
            grace_s=self.grace_hours * 3600,
            max_age_s=None if self.max_age_days is None else self.max_age_days * DAY_S,
            max_bytes=self.max_bytes,
            redact=self.redactor,
        )

    @property
    def redactor(self) -> Redactor | None:
        return Redactor(self.redact_regions) if self.redact else None


class ReviewSettings(Section):
    """How people review flagged turns."""

    raters: int = Field(3, ge=1, le=9, description="raters a round; two of three that agree do")
    all_raters: bool = Field(False, description="ask all of them, even once two agree")
    lease_s: float = Field(600.0, gt=0, description="how long a claim holds an item")
    figures_s: float = Field(
        300.0, gt=0, description="from one look at all flagged turns to the next"
    )
    sample: float = Field(
        0.05, ge=0, le=1, description="share of blocks that is reviewed whatever else is known"
    )
