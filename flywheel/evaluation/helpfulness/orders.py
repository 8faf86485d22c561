"""A judge asked twice, with the replies in both orders: what its two verdicts come to.

Judges prefer a place, often the first, whatever stands there (Llama 2, §3.4.2). A reply wins only
if it is preferred in both places; verdicts that contradict each other are a tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flywheel.evaluation.judge.model import Place


class Outcome(StrEnum):
    """Of the first endpoint."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """forward: with the first endpoint's reply in the first place; backward: in the second.
    None for a malformed answer."""

    forward: Place | None
    backward: Place | None

    @property
    def outcome(self) -> Outcome | None:
        """None where an answer was malformed."""
        if self.forward is None or self.backward is None:
            return None
        if (self.forward, self.backward) == ("first", "second"):
            return Outcome.WIN
        if (self.forward, self.backward) == ("second", "first"):
            return Outcome.LOSS
        return Outcome.TIE

    @property
    def same_place(self) -> Place | None:
        """The place that was preferred whoever stood there."""
        same = self.forward == self.backward and self.forward in ("first", "second")
        return self.forward if same else None

    @property
    def consistent(self) -> bool:
        """Whether both orders say the same of the replies."""
        return self.outcome is not Outcome.TIE or self.forward == self.backward == "tie"


def bias(verdicts: Sequence[Verdicts]) -> dict[str, float | None]:
    """Shares of the well-formed pairs of verdicts, None where there are none.

    position_bias: the same place preferred in both orders, and which one it was;
    inconsistent: the orders contradict each other in any way.
    """
    judged = [v for v in verdicts if v.outcome is not None]

    def share(count: int) -> float | None:
        return count / len(judged) if judged else None

    first = sum(v.same_place == "first" for v in judged)
    second = sum(v.same_place == "second" for v in judged)
    return {
        "position_bias": share(first + second),
        "position_bias_first": share(first),
        "position_bias_second": share(second),
        "inconsistent": share(sum(not v.consistent for v in judged)),
    }
