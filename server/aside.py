"""Turns beside those of clients: judged like any other, and neither counted nor recorded."""

from uuid import uuid4

from guard.guard import Guard
from server.engine import Engine, Json
from server.engine_request import EngineRequest
from server.observer import Observer
from server.turn import Turn


class Aside:
    """Asks the engine through the guard, for nobody who waits for the answer."""

    def __init__(self, engine: Engine, guard: Guard, observer: Observer) -> None:
        self._engine = engine
        self._guard = guard
        self._observer = observer

    async def turn(self, asked: EngineRequest, body: Json) -> tuple[Turn, str]:
        """A turn at its end, and the text that it would have shown. Raises ApiError."""
        turn = Turn(
            uuid4().hex,
            asked.judged,
            body,
            engine=self._engine,
            guard=self._guard,
            observer=self._observer,
        )
        parts = list[str]()
        try:
            await turn.open()
            while (releases := await turn.next()) is not None:
                parts += [release.delta.get("content") or "" for release in releases]
        finally:
            turn.close()
        return turn, "".join(parts)
