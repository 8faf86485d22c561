"""The review desk: hands out items, takes answers, and notices when raters have decided.

    desk = ReviewDesk(journal, ReviewOptions())
    held = await desk.claim("ada", task=Task.SAFETY)       # the next item, hers for a while
    await desk.rate("ada", SafetyAnswer(item_id=held.item_id, task="safety", score=4))

Nothing is kept here: gateways that share a journal share one desk.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

import structlog

from flywheel.agreement.collected import ORDERS, items_of
from flywheel.agreement.report import ac2, report
from flywheel.journal import Claim, Entry, Journal, UnknownTurn
from flywheel.opinions import Rating, SecondReply
from flywheel.records import RecordError
from flywheel.review.answers import Answer, rating_of
from flywheel.review.comparisons import Comparisons, MakeReply
from flywheel.review.errors import (
    AlreadyRated,
    Held,
    NothingToUndo,
    Settled,
    UnknownItem,
)
from flywheel.review.false_refusals import Finding, decided
from flywheel.review.marks import Mark, Marks
from flywheel.review.offers import Offer, Offers
from flywheel.review.priority import PriorityOptions, priority
from flywheel.review.rounds import (
    Panel,
    Progress,
    answers_of,
    check_newest,
    progress,
    round_for,
)
from flywheel.review.survey import Overview, Survey
from flywheel.review.tasks import ItemId, Pair, Task, can_be_asked, pair_of
from flywheel.review.views import ItemView, QueuedItem, has_rated, shown_reasons, view

log = structlog.get_logger(__name__)

_LATER_S: Final = 1e-3


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """How review is done.

    panel: whom a round asks. lease_s: how long a claim holds. priority: what the order
    follows; the journal's must be the same. redact: applied to what raters write.
    """

    panel: Panel = field(default_factory=Panel)
    lease_s: float = 600.0
    priority: PriorityOptions = field(default_factory=PriorityOptions)
    redact: Callable[[str], str] = str
    clock: Callable[[], float] = time


class ReviewDesk:
    """Every method may raise JournalUnavailable.

    second_reply: makes what is missing for a comparison; without it only recorded pairs are
    compared. found: told once raters have decided about a refusal.
    """

    def __init__(
        self,
        journal: Journal,
        options: ReviewOptions | None = None,
        *,
        second_reply: MakeReply | None = None,
        found: Callable[[Finding], None] = lambda _: None,
    ) -> None:
        self._journal = journal
        self._options = options = options or ReviewOptions()
        self._can_make = can_make = second_reply is not None
        self._found = found
        self._marks = Marks(journal)
        self._comparisons = Comparisons(
            journal, self._marks, second_reply, redact=options.redact, clock=options.clock
        )
        self._survey = Survey(
            journal,
            panel=options.panel,
            sample=options.priority.sample,
            second_replies=can_make,
            clock=options.clock,
        )
        self._offers = Offers(
            journal, self._marks, self._survey, panel=options.panel, second_replies=can_make
        )

    async def queue(self, rater_id: str, task: Task, limit: int = 20) -> list[QueuedItem]:
        """What this rater would be offered, in order."""
        found = list[QueuedItem]()
        async for offer in self._offers.to(rater_id, task):
            if len(found) == limit:
                break
            found.append(self._queued(offer, rater_id, len(found) + 1))
        return found

    async def claim(
        self, rater_id: str, *, task: Task | None = None, item_id: str | None = None
    ) -> ItemView | None:
        """Hold the next item of a task, or a named one; None: nothing is left for this rater.

        A named item may be one that was skipped, or an adjudication of what one rated oneself.
        Raises UnknownItem, Held, AlreadyRated, Settled; ValueError without task and item; and
        what making a second reply raises.
        """
        if item_id is not None:
            return await self._claim_named(ItemId.parse(item_id), rater_id)
        if task is None:
            raise ValueError("a task or an item is needed")
        async for offer in self._offers.to(rater_id, task):
            if offer.claim is not None and offer.claim.rater_id != rater_id:
                continue
            if (held := await self._hold(offer.item, rater_id)) is None:
                continue
            try:
                # Another rater may have answered between our reading and our claim.
                entry = await self._entry(offer.item)
                if self._offers.may_answer(entry, task, rater_id):
                    shown = await self._prepare(offer.item, entry, rater_id, held)
                    if shown is not None:
                        return shown
            except UnknownItem:  # erased meanwhile
                pass
            await self._journal.release(str(offer.item), rater_id)
        return None

    async def release(self, rater_id: str, item_id: str) -> bool:
        """Let go of an item; False: this rater did not hold it. Raises UnknownItem."""
        return await self._journal.release(str(ItemId.parse(item_id)), rater_id)

    async def skip(self, rater_id: str, item_id: str) -> None:
        """Never offer this item to this rater again. Raises UnknownItem."""
        item = ItemId.parse(item_id)
        await self._entry(item)
        await self._marks.put(Mark.SKIPPED, item_id, rater_id)
        await self._journal.release(item_id, rater_id)

    async def item(self, rater_id: str, item_id: str) -> ItemView:
        """What this rater may see of an item. Raises UnknownItem."""
        item = ItemId.parse(item_id)
        entry = await self._entry(item)
        claims = await self._journal.claims([item_id])
        return await self._view(item, entry, rater_id, claims.get(item_id))

    async def rate(self, rater_id: str, answer: Answer) -> ItemView:
        """Take an answer; the item goes back unless it is settled.

        A claim that ran out does no harm as long as nobody else holds the item. Raises
        UnknownItem, Held, AlreadyRated, Settled, RoundClosed, NothingToUndo.
        """
        item = ItemId.parse(answer.item_id)
        if item.task != answer.task:
            raise UnknownItem(answer.item_id)
        await self._entry(item)
        claims = await self._journal.claims([answer.item_id])
        if await self._hold(item, rater_id) is None:
            raise Held("another rater holds this item now")
        try:
            entry = await self._entry(item)
            standing = progress(entry, item.task, self._options.panel)
            number = round_for(
                entry, item.task, standing, rater_id, replace=answer.replace, held=bool(claims)
            )
            await self._journal.add_rating(
                await self._rating(item, entry, rater_id, answer, number)
            )
            await self._settle(item, standing)
        except UnknownTurn:  # erased meanwhile
            raise UnknownItem(answer.item_id) from None
        finally:
            await self._journal.release(answer.item_id, rater_id)
        return await self.item(rater_id, answer.item_id)

    async def undo(self, rater_id: str, item_id: str | None = None) -> str:
        """Withdraw one's newest answer, of all or to one item; returns the item's id.

        Raises UnknownItem, NothingToUndo, RoundClosed, Held.
        """
        if item_id is None:
            said = (await self._survey.overview(fresh=True)).ratings
        else:
            said = list((await self._entry(ItemId.parse(item_id))).ratings)
        own = [r for r in said if r.rater_id == rater_id and r.item_id == (item_id or r.item_id)]
        own = [r for r in own if not isinstance(r, SecondReply)]
        if not own:
            raise NothingToUndo("there is no answer of yours to take back")
        last = max(own, key=lambda rating: (rating.time, rating.id))
        item = ItemId.parse(last.item_id)
        if await self._hold(item, rater_id) is None:
            raise Held("another rater holds this item now")
        try:
            entry = await self._entry(item)
            check_newest(entry, item.task, last)
            standing = progress(entry, item.task, self._options.panel)
            await self._journal.withdraw_rating(last)
            await self._settle(item, standing)
        finally:
            await self._journal.release(last.item_id, rater_id)
        return last.item_id

    async def agreement(self) -> dict[str, Any]:
        """How far raters agree so far: a report for each task that has ratings."""
        ratings = (await self._survey.overview()).ratings
        reports = await asyncio.to_thread(lambda: list(report(items_of(ratings), orders=ORDERS)))
        return {task: found.as_json() for task, found in reports}

    async def agreed(self) -> Mapping[str, float]:
        """Gwet's AC2 so far, by task; without tasks of which there is too little to tell."""
        ratings = (await self._survey.overview()).ratings
        return await asyncio.to_thread(lambda: ac2(items_of(ratings), ORDERS))

    async def overview(self) -> Overview:
        """Numbers over all tasks; a few seconds old at most."""
        return await self._survey.overview()

    def _queued(self, offer: Offer, rater_id: str, position: int) -> QueuedItem:
        rated = has_rated(offer.entry, offer.item.task, rater_id)
        placed = priority(offer.entry.record, self._options.priority)
        return QueuedItem(
            item_id=str(offer.item),
            task=offer.item.task,
            position=position,
            time=offer.entry.record.time,
            round=offer.standing.number,
            adjudication=offer.standing.adjudication,
            answers=len(offer.standing.answers),
            claimed=offer.claim is not None and offer.claim.rater_id != rater_id,
            reasons=shown_reasons(placed, blind=not rated),
        )

    async def _claim_named(self, item: ItemId, rater_id: str) -> ItemView:
        await self._entry(item)
        held = await self._hold(item, rater_id)
        if held is None:
            raise Held("another rater holds this item now")
        shown = None
        try:
            entry = await self._entry(item)
            standing = progress(entry, item.task, self._options.panel)
            if not standing.open:
                raise Settled("the raters have decided about this item")
            if any(answer.rater_id == rater_id for answer in standing.answers):
                raise AlreadyRated("you have answered this item in this round")
            shown = await self._prepare(item, entry, rater_id, held)
        finally:
            if shown is None:
                await self._journal.release(str(item), rater_id)
        if shown is None:
            raise UnknownItem(str(item))
        return shown

    async def _entry(self, item: ItemId) -> Entry:
        """The turn behind an item, if it can be asked about."""
        try:
            entry = await self._journal.turn(item.turn_id)
        except (UnknownTurn, RecordError):
            raise UnknownItem(str(item)) from None
        askable = can_be_asked(item.task, entry, second_replies=self._can_make)
        if not entry.record.flags or not askable:
            raise UnknownItem(str(item))
        return entry

    async def _hold(self, item: ItemId, rater_id: str) -> Claim | None:
        return await self._journal.claim(str(item), rater_id, self._options.lease_s)

    async def _prepare(
        self, item: ItemId, entry: Entry, rater_id: str, held: Claim
    ) -> ItemView | None:
        """The item for whoever holds it; None: there is nothing to compare after all."""
        if item.task is Task.PREFERENCE and pair_of(entry) is None:
            try:
                made = await self._comparisons.complete(item, entry)
            except BaseException:
                await self._journal.release(str(item), rater_id)
                raise
            if not made:
                return None
            entry = await self._entry(item)
        return await self._view(item, entry, rater_id, held)

    async def _rating(
        self, item: ItemId, entry: Entry, rater_id: str, answer: Answer, number: int
    ) -> Rating:
        pair = self._pair(item, entry, rater_id)
        if item.task is Task.PREFERENCE and pair is None:
            raise UnknownItem(str(item))
        own = [r.time for r in answers_of(entry, item.task) if r.rater_id == rater_id]
        common = {
            "turn_id": item.turn_id,
            "rater_id": rater_id,
            "time": max([self._options.clock(), *(said + _LATER_S for said in own)]),
            "round": number,
            "blind": not await self._marks.has(Mark.OPENED, str(item), rater_id),
        }
        return rating_of(answer, common, pair, self._options.redact)

    async def _view(
        self, item: ItemId, entry: Entry, rater_id: str, claim: Claim | None
    ) -> ItemView:
        shown = view(
            entry,
            item,
            progress(entry, item.task, self._options.panel),
            rater_id,
            placed=priority(entry.record, self._options.priority),
            pair=self._pair(item, entry, rater_id),
            claim=claim,
        )
        if shown.details is not None:
            await self._marks.put(Mark.OPENED, str(item), rater_id)
        return shown

    def _pair(self, item: ItemId, entry: Entry, rater_id: str) -> Pair | None:
        pair = pair_of(entry) if item.task is Task.PREFERENCE else None
        return pair and pair.for_rater(item.turn_id, rater_id)

    async def _settle(self, item: ItemId, before: Progress) -> None:
        """Follow a change of the answers: into the queue or out of it."""
        self._survey.forget()
        if item.task is not Task.SAFETY:
            return
        entry = await self._entry(item)
        after = progress(entry, item.task, self._options.panel)
        if after.open == entry.reviewed:
            await self._journal.set_reviewed(item.turn_id, not after.open)
        state = decided(entry.record, after.verdict)
        if after.verdict is None or state in (None, decided(entry.record, before.verdict)):
            return
        log.info("false_refusal", turn_id=item.turn_id, state=state)
        self._found(Finding(entry.record, state))
