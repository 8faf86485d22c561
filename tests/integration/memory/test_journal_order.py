"""Whatever arrives in any order, and any number of times, ends the same."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import permutations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.journal import Journal, NotYours, UnknownTurn, entries
from flywheel.opinions import Feedback, FeedbackKind
from flywheel.records import TurnRecord
from guard.types import Flag
from tests.fakes.turns import NOON, flagged_record, turn_record
from tests.integration.memory.stores import Store, queued, report

Act = TurnRecord | Feedback | str
"""Something that arrives; a string is a conversation to be erased."""


async def _apply(journal: Journal, act: Act) -> None:
    try:
        if isinstance(act, TurnRecord):
            await journal.record(act)
        elif isinstance(act, Feedback):
            await journal.feedback(act)
        else:
            await journal.erase(act, "ada")
    except (UnknownTurn, NotYours):
        pass


async def _state(journal: Journal) -> tuple[object, ...]:
    turns = sorted(
        [(e.record.model_dump_json(), e.feedback) async for e in entries(journal)],
        key=lambda turn: turn[0],
    )
    stones = [(s.conversation, s.turn_ids) for s in await journal.tombstones()]
    return turns, stones, (await journal.counters()).outcomes, sorted(await queued(journal))


async def _state_after(store: Store, acts: list[Act]) -> tuple[object, ...]:
    async with AsyncExitStack() as stack:
        journal = await replace(store, stack=stack).open()
        for act in acts:
            await _apply(journal, act)
        return await _state(journal)


ACTS: list[Act] = [
    turn_record("turn-1"),
    flagged_record("turn-2", conversation_id="kitchen"),
    turn_record("turn-3"),
    report("turn-1"),
    report("turn-2", kind=FeedbackKind.THUMBS_DOWN, time=NOON + 1),
    report("turn-2", kind=FeedbackKind.THUMBS_UP, time=NOON + 2),
    report("turn-2", kind=FeedbackKind.THUMBS_DOWN, time=NOON + 3),
    report("turn-2", key_id="bob"),
    report("turn-3", kind=FeedbackKind.APPEAL),
    "garden",
]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.permutations([*ACTS, *ACTS]), st.booleans())
async def test_any_order_of_arrival_ends_the_same(
    store: Store, acts: list[Act], erased: bool
) -> None:
    chosen = [act for act in acts if erased or act != "garden"]
    in_a_row = [act for act in ACTS if erased or act != "garden"]
    assert await _state_after(store, chosen) == await _state_after(store, in_a_row)


async def test_feedback_and_record_at_the_same_time(store: Store) -> None:
    acts: list[Act] = [turn_record(), report(), report(kind=FeedbackKind.APPEAL)]
    for order in permutations(acts):
        journal = await store.open()
        await asyncio.gather(*(_apply(journal, act) for act in order))
        entry = await journal.turn("turn-1", "ada")
        assert entry.record.flags == {Flag.USER_REPORT, Flag.GUARD_APPEAL}
