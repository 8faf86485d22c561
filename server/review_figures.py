"""Metrics of review that take a look at all flagged turns: brought up to date now and then."""

import asyncio
from typing import Self

import structlog

from flywheel.background import ended
from flywheel.journal import JournalUnavailable
from flywheel.review.desk import ReviewDesk
from server.metrics.review import ReviewMetrics

log = structlog.get_logger(__name__)


class ReviewFigures:
    """Shows agreement and findings while it is open. every_s: from one look to the next."""

    def __init__(self, desk: ReviewDesk, metrics: ReviewMetrics, *, every_s: float) -> None:
        self._desk = desk
        self._metrics = metrics
        self._every_s = every_s

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look_for_ever(), name="review-figures")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await ended(self._task)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                found = await self._desk.overview()
                self._metrics.show(found.false_refusals, await self._desk.agreed())
            except JournalUnavailable as error:
                log.warning("review_not_counted", error=str(error))
            await asyncio.sleep(self._every_s)
