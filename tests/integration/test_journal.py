"""What every journal promises, held against SQLite and against a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.journal import (
    DAY_S,
    PENDING_PER_KEY,
    Journal,
    JournalOptions,
    Keep,
    NotYours,
    UnknownTurn,
    entries,
)
from flywheel.opinions import DemonstrationRating, Feedback, FeedbackKind, SafetyRating
from flywheel.records import Outcome, TurnRecord
from flywheel.redis.journal import RedisJournal
from flywheel.sqlite.journal import SqliteJournal
from guard.types import Flag
from tests.fakes.turns import NOON, SECRET, flagged_record, turn_record
from tests.redis_server import RedisServer


@dataclass
class Store:
    """Opens journals on one backend, each on a store of its own unless named."""

    kind: str
    folder: Path
    redis: RedisServer
    stack: AsyncExitStack
    now: float = NOON

    async def open(self, name: str | None = None, **options: Any) -> Journal:
        name = name or uuid4().hex
        chosen = JournalOptions(clock=lambda: self.now, **options)
        if self.kind == "sqlite":
            return await self.stack.enter_async_context(
                SqliteJournal(self.folder / f"{name}.sqlite", chosen)
            )
        spool = self.folder / f"{name}-{uuid4().hex}.spool"
        return await self.stack.enter_async_context(
            RedisJournal(self.redis.url, chosen, spool=spool, prefix=name)
        )


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer
) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        yield Store(request.param, tmp_path, redis, stack)


@pytest.fixture
async def journal(store: Store) -> Journal:
    return await store.open()


def report(turn_id: str = "turn-1", key_id: str = "ada", **more: Any) -> Feedback:
    said = {"kind": FeedbackKind.REPORT, "time": NOON + 5, "text": "That was rude.", **more}
    return Feedback.of(turn_id, key_id, **said)


def rating(item_id: str = "item-1", **more: Any) -> SafetyRating:
    said = {"rater_id": "r1", "turn_id": "turn-1", "time": NOON + 9, "score": 2, **more}
    return SafetyRating(item_id=item_id, **said)


async def ids(journal: Journal, *, flagged: bool = False) -> list[str]:
    return [e.record.turn_id async for e in entries(journal, flagged=flagged, page=2)]


async def queued(journal: Journal) -> list[str]:
    found, after = list[str](), -1
    while page := await journal.queue(after, 2):
        found += [entry.record.turn_id for entry in page]
        after = page[-1].rank
    return found


async def sweep_all(journal: Journal) -> None:
    while await journal.sweep():
        pass


# Recording


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


# What is kept


async def test_content_of_an_unflagged_turn_stays_for_a_day(store: Store) -> None:
    journal = await store.open()
    await journal.record(turn_record())
    store.now += DAY_S - 1
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == turn_record()
    store.now += 2
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == turn_record().without_content()


async def test_content_of_a_flagged_turn_stays(store: Store) -> None:
    journal = await store.open()
    await journal.record(flagged_record())
    store.now += 30 * DAY_S
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record == flagged_record()


@pytest.mark.parametrize("kind", FeedbackKind)
async def test_content_stays_once_its_user_spoke(store: Store, kind: FeedbackKind) -> None:
    journal = await store.open()
    await journal.record(turn_record())
    await journal.feedback(report(kind=kind))
    store.now += 2 * DAY_S
    await sweep_all(journal)
    assert (await journal.turn("turn-1")).record.content is not None


async def test_without_grace_content_is_never_stored(store: Store) -> None:
    journal = await store.open(grace_s=0)
    await journal.record(turn_record())
    assert (await journal.turn("turn-1")).record == turn_record().without_content()


@pytest.mark.parametrize(
    ("keep", "sample", "least", "most"),
    [
        (Keep.FLAGGED, 0.0, 0, 0),
        (Keep.ALL, 0.0, 100, 100),
        (Keep.SAMPLE, 0.5, 30, 70),
    ],
)
async def test_how_much_content_is_kept(
    store: Store, keep: Keep, sample: float, least: int, most: int
) -> None:
    journal = await store.open(keep=keep, sample=sample, grace_s=0)
    records = [turn_record(f"turn-{i}") for i in range(100)]
    await asyncio.gather(*map(journal.record, records))
    kept = [e.record.turn_id async for e in entries(journal) if e.record.content]
    assert least <= len(kept) <= most
    again = await store.open(keep=keep, sample=sample, grace_s=0)
    await asyncio.gather(*map(again.record, records))
    assert set(kept) == {e.record.turn_id async for e in entries(again) if e.record.content}


async def test_turns_past_their_age_go_with_all_that_belongs_to_them(store: Store) -> None:
    journal = await store.open(max_age_s=7 * DAY_S)
    await journal.record(flagged_record("old", time=NOON - 8 * DAY_S))
    await journal.feedback(report("old"))
    await journal.add_rating(rating(turn_id="old"))
    await journal.record(flagged_record("young"))
    await sweep_all(journal)
    assert await ids(journal) == ["young"]
    assert await queued(journal) == ["young"]
    assert await journal.ratings("item-1") == []
    assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 2}


async def test_too_large_a_journal_forgets_the_oldest_unflagged_turns(store: Store) -> None:
    journal = await store.open(max_bytes=800_000)
    for first in range(0, 700, 100):
        make = flagged_record if first == 0 else turn_record
        some = [make(f"turn-{i}") for i in range(first, first + 100)]
        await asyncio.gather(*map(journal.record, some))
    await sweep_all(journal)
    left = [int(name.removeprefix("turn-")) for name in await ids(journal)]
    assert 100 < len(left) < 700
    assert set(left[:100]) == set(range(100))
    assert min(left[100:]) > 100, "the oldest went"
    assert max(left) >= 600


async def test_text_is_redacted_before_it_is_stored(store: Store) -> None:
    journal = await store.open(redact=lambda text: text.replace(SECRET, "[secret]"))
    await journal.record(flagged_record())
    await journal.feedback(report(text=f"You told: {SECRET}"))
    entry = await journal.turn("turn-1", "ada")
    assert SECRET not in entry.record.model_dump_json()
    assert entry.record.messages is not None
    assert entry.record.messages[0].text == "Remember: [secret]."
    assert entry.record.choices[0].reply == "I shall: [secret]."
    assert entry.record.attempts[0].reply == "No: [secret]?"
    assert entry.feedback[0].text == "You told: [secret]"


# Feedback


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        (FeedbackKind.REPORT, Flag.USER_REPORT),
        (FeedbackKind.APPEAL, Flag.GUARD_APPEAL),
        (FeedbackKind.THUMBS_DOWN, Flag.UNHELPFUL),
    ],
)
async def test_feedback_flags_its_turn(journal: Journal, kind: FeedbackKind, flag: Flag) -> None:
    await journal.record(turn_record())
    assert await journal.feedback(report(kind=kind))
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == {flag}
    assert entry.feedback == (report(kind=kind),)
    assert await queued(journal) == ["turn-1"]
    assert await ids(journal, flagged=True) == ["turn-1"]


async def test_praise_flags_nothing(journal: Journal) -> None:
    await journal.record(turn_record())
    await journal.feedback(report(kind=FeedbackKind.THUMBS_UP))
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == frozenset()
    assert len(entry.feedback) == 1


async def test_feedback_twice_is_feedback_once(journal: Journal) -> None:
    await journal.record(turn_record())
    for _ in range(2):
        assert await journal.feedback(report())
    assert (await journal.turn("turn-1", "ada")).feedback == (report(),)


async def test_of_changing_opinions_the_last_holds(journal: Journal) -> None:
    up, down = FeedbackKind.THUMBS_UP, FeedbackKind.THUMBS_DOWN
    await journal.record(turn_record())
    for time, kind in enumerate((up, down, up)):
        await journal.feedback(report(kind=kind, time=time, text=""))
    feedback = (await journal.turn("turn-1", "ada")).feedback
    assert [said.kind for said in feedback] == [down, up]


async def test_feedback_waits_for_its_turn(journal: Journal) -> None:
    assert not await journal.feedback(report())
    await journal.record(turn_record())
    entry = await journal.turn("turn-1", "ada")
    assert entry.record.flags == {Flag.USER_REPORT}
    assert entry.feedback == (report(),)


async def test_only_so_much_feedback_waits(journal: Journal) -> None:
    for i in range(PENDING_PER_KEY):
        assert not await journal.feedback(report(f"future-{i}"))
    with pytest.raises(UnknownTurn):
        await journal.feedback(report("one-too-many"))
    assert not await journal.feedback(report("anybody-else's", key_id="bob"))


async def test_feedback_does_not_wait_for_ever(store: Store) -> None:
    journal = await store.open()
    await journal.feedback(report(time=store.now))
    store.now += 2 * DAY_S
    await sweep_all(journal)
    await journal.record(turn_record())
    assert (await journal.turn("turn-1", "ada")).feedback == ()


async def test_a_report_after_review_asks_for_another(journal: Journal) -> None:
    await journal.record(flagged_record())
    await journal.set_reviewed("turn-1")
    assert await queued(journal) == []
    await journal.feedback(report())
    assert await queued(journal) == ["turn-1"]
    await journal.set_reviewed("turn-1")
    await journal.feedback(report())
    assert await queued(journal) == [], "the same report again says nothing new"


# Whose it is


async def test_another_key_is_refused(journal: Journal) -> None:
    await journal.record(turn_record())
    with pytest.raises(NotYours):
        await journal.turn("turn-1", "bob")
    with pytest.raises(NotYours):
        await journal.feedback(report(key_id="bob"))
    with pytest.raises(NotYours):
        await journal.erase("garden", "bob")
    assert (await journal.turn("turn-1", "ada")).record == turn_record()


async def test_feedback_of_another_key_that_came_first_is_dropped(journal: Journal) -> None:
    await journal.feedback(report(key_id="bob"))
    await journal.record(turn_record())
    entry = await journal.turn("turn-1")
    assert entry.record.flags == frozenset()
    assert entry.feedback == ()


async def test_an_unknown_turn_is_unknown(journal: Journal) -> None:
    with pytest.raises(UnknownTurn):
        await journal.turn("nobody", "ada")
    with pytest.raises(UnknownTurn):
        await journal.set_reviewed("nobody")
    with pytest.raises(UnknownTurn):
        await journal.prioritise("nobody", 0.5)
    with pytest.raises(UnknownTurn):
        await journal.add_rating(rating(turn_id="nobody"))


# Erasure


async def test_an_erased_conversation_is_gone_everywhere(journal: Journal) -> None:
    for name in ("turn-1", "turn-2"):
        await journal.record(flagged_record(name))
    await journal.record(flagged_record("elsewhere", conversation_id="kitchen"))
    await journal.record(flagged_record("another's", key_id="bob"))
    await journal.feedback(report())
    await journal.add_rating(rating())
    assert await journal.erase("garden", "ada") == 2
    assert await ids(journal) == ["elsewhere", "another's"]
    assert sorted(await queued(journal)) == ["another's", "elsewhere"]
    assert await journal.ratings("item-1") == []
    with pytest.raises(UnknownTurn):
        await journal.turn("turn-1", "ada")
    (stone,) = await journal.tombstones()
    assert (stone.key_id, stone.conversation) == ("ada", "garden")
    assert stone.turn_ids == ("turn-1", "turn-2")


async def test_what_comes_after_an_erasure_stays_out(journal: Journal) -> None:
    await journal.record(turn_record())
    await journal.erase("garden", "ada")
    await journal.record(turn_record())
    await journal.record(flagged_record("late"))
    assert await ids(journal) == []
    with pytest.raises(UnknownTurn):
        await journal.feedback(report())
    with pytest.raises(UnknownTurn):
        await journal.add_rating(rating())
    assert (await journal.tombstones())[0].turn_ids == ("late", "turn-1")
    assert (await journal.counters()).outcomes == {Outcome.COMPLETED: 2}


async def test_a_turn_without_a_conversation_is_erased_by_its_id(journal: Journal) -> None:
    await journal.record(turn_record("alone", conversation_id=None))
    assert await journal.erase("alone", "ada") == 1
    assert await ids(journal) == []


async def test_erasing_twice_is_erasing_once(journal: Journal) -> None:
    await journal.record(turn_record())
    assert await journal.erase("garden", "ada") == 1
    assert await journal.erase("garden", "ada") == 0


# The queue


async def test_the_queue_is_ordered_by_priority_then_arrival(store: Store) -> None:
    journal = await store.open(priority=lambda record: record.prompt.safety or 0.0)
    priorities = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.5}
    for name, priority in priorities.items():
        prompt = {"safety": priority}
        await journal.record(flagged_record(name, prompt=prompt))
    await journal.record(turn_record("unflagged"))
    assert await queued(journal) == ["b", "d", "c", "e", "a"]
    await journal.prioritise("e", 0.95)
    assert await queued(journal) == ["e", "b", "d", "c", "a"]
    await journal.feedback(report("a"))
    assert await queued(journal) == ["a", "e", "b", "d", "c"]


async def test_reviewed_turns_leave_the_queue_and_may_come_back(store: Store) -> None:
    journal = await store.open()
    for name in "abc":
        await journal.record(flagged_record(name))
    await journal.set_reviewed("b")
    assert await queued(journal) == ["a", "c"]
    assert (await journal.turn("b")).reviewed
    store.now += 60
    counters = await journal.counters()
    assert (counters.pending, counters.reviewed) == (2, 1)
    assert counters.oldest_pending_s == 60
    await journal.set_reviewed("b", reviewed=False)
    assert await queued(journal) == ["a", "b", "c"]


async def test_two_raters_never_hold_the_same_item(journal: Journal) -> None:
    raters = [f"r{i}" for i in range(20)]
    granted = await asyncio.gather(*(journal.claim("item-1", r, 60) for r in raters))
    (claim,) = [c for c in granted if c is not None]
    assert await journal.claims(["item-1", "item-2"]) == {"item-1": claim}
    assert await journal.claim("item-2", "r0", 60) is not None


async def test_twenty_raters_share_out_the_items(journal: Journal) -> None:
    items = [f"item-{i}" for i in range(20)]

    async def rater(name: str) -> list[str]:
        return [item for item in items if await journal.claim(item, name, 60) is not None]

    shares = await asyncio.gather(*(rater(f"r{i}") for i in range(20)))
    assert sorted(item for share in shares for item in share) == sorted(items)


async def test_a_lease_that_ran_out_can_be_claimed_again(store: Store) -> None:
    journal = await store.open()
    assert await journal.claim("item-1", "r1", 60) is not None
    assert await journal.claim("item-1", "r2", 60) is None
    store.now += 61
    assert await journal.claims(["item-1"]) == {}
    claim = await journal.claim("item-1", "r2", 60)
    assert claim is not None
    assert claim.rater_id == "r2"
    assert claim.expires == store.now + 60
    assert not await journal.release("item-1", "r1")
    assert await journal.claims(["item-1"]) == {"item-1": claim}


async def test_a_rater_may_extend_and_release_a_claim(store: Store) -> None:
    journal = await store.open()
    await journal.claim("item-1", "r1", 60)
    store.now += 50
    longer = await journal.claim("item-1", "r1", 60)
    assert longer is not None
    assert longer.expires == store.now + 60
    assert await journal.release("item-1", "r1")
    assert not await journal.release("item-1", "r1")
    assert await journal.claim("item-1", "r2", 60) is not None


async def test_ratings_belong_to_item_and_turn(journal: Journal) -> None:
    await journal.record(flagged_record())
    second = rating(rater_id="r2", time=NOON + 3)
    wish = DemonstrationRating(item_id="item-2", rater_id="r1", time=NOON, text="Hello.")
    for said in (rating(), second, wish):
        await journal.add_rating(said)
    assert await journal.ratings("item-1") == [second, rating()]
    assert await journal.ratings("item-2") == [wish]
    assert (await journal.turn("turn-1")).ratings == (second, rating())


async def test_a_rater_who_answers_again_replaces_the_answer(journal: Journal) -> None:
    await journal.record(flagged_record())
    for said in (rating(score=4, time=NOON + 20), rating(score=1, time=NOON + 10)):
        await journal.add_rating(said)
    assert [r.time for r in await journal.ratings("item-1")] == [NOON + 20]


# Any order


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
