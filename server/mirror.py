"""The version in shadow: it answers a share of the live turns, and nobody sees what it says.

What is kept of a mirrored turn is scores, never text: whether each of the two replies violates,
and how helpful it is. `flywheel.registry.promotion` reads them. Mirroring is the last in line:
one turn at a time, after the client has its reply, and none where the engine is in trouble.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Self

import structlog

from flywheel.records import Outcome
from flywheel.registry.versions import Kind
from guard.types import Verdict
from server.aside import Aside
from server.choice import Choice
from server.engine_request import EngineRequest
from server.errors import ApiError
from server.ledger import Entry
from server.versions import Versions, adapter_name

log = structlog.get_logger(__name__)


class Mirror:
    """Mirrors finished turns. Open and close it as a context manager.

    share: of the turns, in [0, 1]. mirrored: called for each turn that was.
    """

    def __init__(
        self,
        versions: Versions,
        aside: Aside,
        *,
        share: float,
        mirrored: Callable[[], None],
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._versions = versions
        self._aside = aside
        self._share = share
        self._mirrored = mirrored
        self._chance = chance or Random().random
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, entry: Entry) -> None:
        """A turn has ended. Mirror it, where chance says so and no other one is under way."""
        version, turn, asked = self._versions.shadow, entry.turn, entry.asked
        if version is None or turn is None or asked is None or len(turn.choices) != 1:
            return
        if entry.outcome not in (Outcome.COMPLETED, Outcome.BLOCKED_RESPONSE):
            return
        if (self._task and not self._task.done()) or self._chance() >= self._share:
            return
        live = {"turn_id": entry.turn_id, "live_version": asked.version}
        scores = _scores(turn.choices[0])
        self._task = asyncio.create_task(self._mirror(asked, version, {**live, "live": scores}))

    async def _mirror(self, asked: EngineRequest, version: str, row: dict[str, Any]) -> None:
        body = {**await asked.body(), "model": adapter_name(version)}
        try:
            turn, _ = await self._aside.turn(asked, body)
        except ApiError as error:
            log.info("shadow_failed", version=version, error=error.type)
            return
        if turn.choices[0].judgement.safety is None and not turn.choices[0].gate.blocked:
            return  # the guard could not judge it
        path = self._versions.registry.root / Kind.CHAT / f"shadow-{version}.jsonl"
        await asyncio.to_thread(_append, path, {**row, "shadow": _scores(turn.choices[0])})
        self._mirrored()


def _scores(choice: Choice) -> dict[str, float]:
    """Values by metric; a helpfulness that nobody measured is left out."""
    found = choice.judgement
    violates = choice.gate.blocked or found.verdict is Verdict.BLOCK
    scores = {"violation": float(violates)}
    if found.helpfulness is not None:
        scores["helpfulness"] = found.helpfulness
    return scores


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
