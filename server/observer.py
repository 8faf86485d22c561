"""Where turns report what they measure."""

from typing import Protocol

from guard.types import GuardError, Score, Stage


class Observer(Protocol):
    def scored(self, stage: Stage, score: Score) -> None: ...

    def waited_for_guard(self, stage: Stage, seconds: float) -> None: ...

    def guard_failed(self, error: GuardError) -> None: ...

    def second_attempt(self, kind: str, result: str) -> None: ...

    def engine_asked_again(self) -> None: ...
