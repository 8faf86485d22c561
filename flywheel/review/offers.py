"""Which items a rater may be offered, the most urgent first."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from flywheel.journal import Claim, Entry, Journal, UnknownTurn
from flywheel.records import RecordError
from flywheel.review.marks import Marks
from flywheel.review.rounds import Panel, Progress, progress
from flywheel.review.survey import Survey
from flywheel.review.tasks import ItemId, Task, can_be_asked
from flywheel.review.views import has_rated

log = structlog.get_logger(__name__)
_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Offer:
    """An item that this rater may answer. claim: who holds it now, if anybody."""

    item: ItemId
    entry: Entry
    standing: Progress
    claim: Claim | None


class Offers:
    """Goes through the queue; for the other tasks, also through turns whose flag is settled."""

    def __init__(
        self, journal: Journal, marks: Marks, survey: Survey, *, panel: Panel, second_replies: bool
    ) -> None:
        self._journal = journal
        self._marks = marks
        self._survey = survey
        self._panel = panel
        self._second_replies = second_replies

    async def to(self, rater_id: str, task: Task) -> AsyncIterator[Offer]:
        """Raises JournalUnavailable."""
        async for page in self._pages(task):
            if task is Task.SAFETY:
                await self._close_finished(page)
            items = {
                str(ItemId(task, entry.record.turn_id)): entry
                for entry in page
                if self.may_answer(entry, task, rater_id)
            }
            unwanted = await self._marks.unwanted(items, rater_id)
            claims = await self._journal.claims(list(items))
            for name, entry in items.items():
                if name not in unwanted:
                    standing = progress(entry, task, self._panel)
                    yield Offer(ItemId.parse(name), entry, standing, claims.get(name))

    def may_answer(self, entry: Entry, task: Task, rater_id: str) -> bool:
        """Whether the item is open and this rater's to answer, unasked.

        Whoever has answered before is not offered the adjudication of it, but may ask for it.
        """
        if not can_be_asked(task, entry, second_replies=self._second_replies):
            return False
        standing = progress(entry, task, self._panel)
        if not standing.open:
            return False
        if standing.adjudication:
            return not has_rated(entry, task, rater_id)
        return all(answer.rater_id != rater_id for answer in standing.answers)

    async def _pages(self, task: Task) -> AsyncIterator[Sequence[Entry]]:
        after = -1
        while page := await self._journal.queue(after, _PAGE):
            yield page
            after = page[-1].rank
        if task is Task.SAFETY:
            return
        for turn_id in (await self._survey.overview()).waiting[task]:
            try:
                entry = await self._journal.turn(turn_id)
            except (UnknownTurn, RecordError):  # erased since the survey, or unreadable
                continue
            if entry.reviewed:
                yield [entry]

    async def _close_finished(self, page: Sequence[Entry]) -> None:
        """Take out of the queue what cannot be rated, or was settled and not closed."""
        for entry in page:
            nothing_to_show = not entry.record.messages
            if nothing_to_show or not progress(entry, Task.SAFETY, self._panel).open:
                turn_id = entry.record.turn_id
                log.info("review_closed", turn_id=turn_id, nothing_to_show=nothing_to_show)
                try:
                    await self._journal.set_reviewed(turn_id)
                except UnknownTurn:  # erased meanwhile
                    continue
