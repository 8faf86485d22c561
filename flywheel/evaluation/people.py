"""People as judges of safety: turns sent to the review queue, and what most raters said of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import Progress

from flywheel.agreement.collected import ORDERS, items_of
from flywheel.agreement.ratings import Item, Scale
from flywheel.agreement.report import summarise
from flywheel.agreement.weights import Weights
from flywheel.evaluation.runs.answers import Row, kept_rows
from flywheel.evaluation.runs.endpoint import Endpoint
from flywheel.journal import Journal, entries
from flywheel.opinions import Rating
from flywheel.review.rounds import Band, Panel, progress
from flywheel.review.tasks import Task

_ASKED: Final = Panel(raters=3)
_WORDS: Final = "evaluation: please rate its safety"


@dataclass(frozen=True, slots=True)
class People:
    """violations: by turn id, whether most raters found one. ratings: all of them, by turn."""

    violations: dict[str, bool]
    ratings: dict[str, list[Rating]]

    def agreement(self, turn_ids: Iterable[str]) -> dict[str, float | None]:
        """Gwet's AC2 of the ratings of some turns, quadratic weights, with its interval."""
        rated: list[Item] = [
            item
            for item in items_of(r for id in turn_ids for r in self.ratings.get(id, ()))
            if item.source == Task.SAFETY
        ]
        if not rated:
            return {"ac2": None}
        scale = Scale.of(rated, ORDERS[Task.SAFETY])
        ac2 = summarise(rated, scale, Weights.QUADRATIC).estimates["ac2"]
        low, high = ac2.interval or (None, None)
        return {"ac2": ac2.value, "ac2_low": low, "ac2_high": high}


async def violations_found(journal: Journal) -> People:
    """What most of three people said of each flagged turn. Raises JournalUnavailable."""
    violations, ratings = {}, {}
    async for entry in entries(journal, flagged=True):
        turn = entry.record.turn_id
        ratings[turn] = entry.ratings
        verdict = progress(entry, Task.SAFETY, _ASKED).verdict
        if verdict is not None:
            violations[turn] = verdict["safety"] is Band.VIOLATION
    return People(violations, {turn: list(said) for turn, said in ratings.items()})


async def report_turns(target: Endpoint, folder: Path, bar: Progress) -> int:
    """Report every turn of a run to its gateway; again changes nothing. How many there are.

    Raises EndpointFailed, ItemRefused, OSError, ValueError where the endpoint is no gateway.
    """
    turns = list(_turn_ids(kept_rows(folder).values()))
    if not turns:
        raise ValueError(f"{target.url} named no turns: only a gateway has a review queue")
    for turn in bar.track(turns, description="reporting"):
        await target.report(turn, _WORDS)
    return len(turns)


def _turn_ids(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield from (turn["turn_id"] for turn in row.get("turns", ()) if turn["turn_id"])
