"""What is recorded is there, once and whole, in the order of arrival."""

import asyncio
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.journal import Journal
from flywheel.records import Outcome
from guard.types import Flag
from tests.fakes.turns import NOON, flagged_record, turn_record
from tests.integration.memory.stores import Store, ids, report


async def test_a_recorded_turn_is_read_back_whole(journal: Journal) -> None:
    await journal.record(flagged_record())
    entry = await journal.turn("turn-1", "ada")
    assert entry.record == flagged_record()
    assert entry.feedback == ()
    assert not entry.reviewed


async def test_a_turn_recorded_twice_is_there_once(journal: Journal) -> None:
    for _ in range(2):
        await journal.record(turn_record())
    assert await ids(journal) == ["turn-1"]
    assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 1}


async def test_many_tasks_record_at_once(journal: Journal) -> None:
    await asyncio.gather(*(journal.record(turn_record(f"turn-{i}")) for i in range(200)))
    assert sorted(await ids(journal)) == sorted(f"turn-{i}" for i in range(200))


async def test_a_task_that_is_cancelled_hurts_nobody(journal: Journal) -> None:
    tasks = [asyncio.create_task(journal.record(turn_record(f"turn-{i}"))) for i in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert {f"turn-{i}" for i in range(1, 50, 2)} <= set(await ids(journal))


async def test_what_was_recorded_is_there_after_reopening(store: Store) -> None:
    first = await store.open("twice")
    await first.record(flagged_record())
    await first.feedback(report())
    await store.stack.aclose()
    again = await store.open("twice")
    entry = await again.turn("turn-1", "ada")
    assert entry.record.flags == {Flag.UNSAFE_RESPONSE, Flag.USER_REPORT}
    assert entry.feedback == (report(),)


async def test_turns_come_in_the_order_of_arrival(journal: Journal) -> None:
    for i, name in enumerate("cab"):
        await journal.record(turn_record(name, time=NOON - i))
    assert await ids(journal) == ["c", "a", "b"]


async def test_flagged_turns_can_be_read_alone(journal: Journal) -> None:
    for i in range(7):
        make = flagged_record if i % 3 == 0 else turn_record
        await journal.record(make(f"turn-{i}"))
    assert await ids(journal, flagged=True) == ["turn-0", "turn-3", "turn-6"]
    newest = await journal.latest(2)
    assert [entry.record.turn_id for entry in newest] == ["turn-6", "turn-3"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=40), number=st.integers(0, 10**9))
async def test_any_text_survives(journal: Journal, text: str, number: int) -> None:
    turn_id = f"turn-{number}-{uuid4().hex}"
    record = flagged_record(turn_id, system=text, conversation_id=f"c{text[:20]}")
    await journal.record(record)
    assert (await journal.turn(turn_id, "ada")).record == record
