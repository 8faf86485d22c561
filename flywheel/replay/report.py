"""All turns that were run again, added up in flat memory."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from flywheel.replay.outlook import LeftOut, Outlook

EXAMPLES: Final = 10
"""Turn ids that a report names for each kind of change."""
FAR: Final = 0.1
"""A score that moves by more than this is counted apart."""


@dataclass(slots=True)
class Change:
    """How often something was so, and would be, among `known` turns that tell both."""

    known: int = 0
    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0

    def add(self, was: bool, now: bool) -> None:
        self.known += 1
        self.before += was
        self.after += now
        self.gained += now and not was
        self.lost += was and not now


@dataclass(slots=True)
class Shift:
    """A score in [0, 1] on both sides: means over `known` turns, and how far it moved."""

    known: int = 0
    before: float = 0.0
    after: float = 0.0
    move: float = 0.0
    far: int = 0

    def add(self, was: float, now: float) -> None:
        self.known += 1
        self.before += (was - self.before) / self.known
        self.after += (now - self.after) / self.known
        self.move += (abs(now - was) - self.move) / self.known
        self.far += abs(now - was) > FAR


@dataclass(slots=True)
class Report:
    """What would change. turns: run again. errors: of these, those that did not end."""

    turns: int = 0
    changed: int = 0
    changes: dict[str, Change] = field(default_factory=lambda: defaultdict(Change))
    scores: dict[str, Shift] = field(default_factory=lambda: defaultdict(Shift))
    errors: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def seen(self) -> int:
        return self.turns + self.left_out.total()

    def add(self, found: Outlook | LeftOut) -> None:
        if isinstance(found, LeftOut):
            self.left_out[found.reason] += 1
            return
        self.turns += 1
        if found.error is not None:
            self.errors[found.error] += 1
        differs = False
        for name, was, now in found.comparable():
            self.changes[name].add(was, now)
            if was != now:
                differs = True
                self._show(f"{name} {'gained' if now else 'lost'}", found.turn_id)
        self.changed += differs
        for name in ("prompt_safety", "response_safety", "helpfulness"):
            before, after = getattr(found.before, name), getattr(found.after, name)
            if before is not None and after is not None:
                self.scores[name].add(before, after)

    def _show(self, difference: str, turn_id: str) -> None:
        if len(shown := self.examples[difference]) < EXAMPLES:
            shown.append(turn_id)

    def as_json(self) -> dict[str, Any]:
        return {
            "turns": self.turns,
            "changed": self.changed,
            "changes": {name: asdict(change) for name, change in self.changes.items()},
            "scores": {name: asdict(shift) for name, shift in self.scores.items()},
            "errors": dict(self.errors),
            "left_out": dict(self.left_out),
            "examples": dict(self.examples),
        }
