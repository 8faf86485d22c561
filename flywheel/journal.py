"""The flywheel's memory: what it promises, whatever store is behind it.

    async with open_journal(folder, options, redis_url=...) as journal:     # flywheel/store.py
        await journal.record(record)     # durable once it returns
        page = await journal.queue(limit=20)
        claim = await journal.claim(item_id, rater_id, lease_s=600)

Turns, feedback, ratings and erasures may arrive in any order and any number of times: the
journal ends in the same state. What a key made belongs to it; other keys are refused.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from time import time
from typing import Final, Protocol, Self

from flywheel.opinions import Feedback, FeedbackKind, Rating
from flywheel.records import Outcome, TurnRecord

DAY_S: Final = 86_400.0
PENDING_PER_KEY: Final = 100
"""Feedback of one key that waits for turns not seen yet."""
PENDING: Final = 10_000
"""Feedback of all keys that waits."""


class JournalError(Exception):
    """What a journal may answer instead of doing as asked.

    JournalError
    ├── JournalUnavailable  it cannot be written or read: a full disk, a lost Redis
    ├── UnknownTurn         no such turn is kept; it may have been erased
    └── NotYours            another key made it: tell the caller that it does not exist
    """


class JournalUnavailable(JournalError): ...


class UnknownTurn(JournalError): ...


class NotYours(JournalError): ...


class Keep(StrEnum):
    """Of which turns the content stays. The row without it is kept for every turn."""

    FLAGGED = "flagged"
    ALL = "all"
    SAMPLE = "sample"


def first_come(record: TurnRecord) -> float:
    """Review in the order of arrival."""
    return 0.0


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """What is kept, for how long, and what is reviewed first.

    sample: share of unflagged turns, in [0, 1], whose content stays under Keep.SAMPLE.
    grace_s: how long other content stays, so that a report still finds it.
    max_age_s, max_bytes: bounds on turns with all that belongs to them; None: no bound.
    priority: of a flagged turn, in [0, 1]; the highest is reviewed first. Reports and
    appeals have 1. redact: applied to all text before it is stored.
    """

    keep: Keep = Keep.FLAGGED
    sample: float = 0.0
    grace_s: float = DAY_S
    max_age_s: float | None = None
    max_bytes: int | None = None
    priority: Callable[[TurnRecord], float] = first_come
    redact: Callable[[str], str] | None = None
    clock: Callable[[], float] = time

    def keeps(self, record: TurnRecord) -> bool:
        """Whether the content stays as long as the turn."""
        if record.flags or self.keep is Keep.ALL:
            return True
        return self.keep is Keep.SAMPLE and _share(record.turn_id) < self.sample


def _share(turn_id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(sha256(turn_id.encode()).digest()[:8]) / 2**64


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn and all that was said of it. `seq` counts arrivals, `rank` orders the queue."""

    seq: int
    rank: int
    reviewed: bool
    record: TurnRecord
    feedback: tuple[Feedback, ...] = ()
    ratings: tuple[Rating, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """One rater's hold on one review item, until `expires` (UTC epoch seconds)."""

    item_id: str
    rater_id: str
    expires: float


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A conversation that was erased. Leave its turns out of whatever was made earlier."""

    key_id: str
    conversation: str
    time: float
    turn_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """The journal in numbers.

    pending: flagged turns not reviewed yet. oldest_pending_s: age of the oldest of them.
    spooled: writes that wait for Redis. dropped: turns that could not be stored at all.
    failures: calls that ended in JournalUnavailable; both count since the process started.
    quarantined: what was found unreadable and put aside. refused: writes that Redis refuses,
    kept on this gateway's disk and tried again now and then.
    outcomes: turns ever recorded, erased and expired ones included.
    """

    pending: int = 0
    oldest_pending_s: float = 0.0
    reviewed: int = 0
    spooled: int = 0
    dropped: int = 0
    failures: int = 0
    quarantined: int = 0
    refused: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)


class Journal(Protocol):
    """Every method may raise JournalUnavailable."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def record(self, record: TurnRecord) -> None:
        """Store a turn. Durable once it returns; a second time changes nothing."""
        ...

    async def feedback(self, feedback: Feedback) -> bool:
        """Join feedback to its turn and flag that; False: the turn is not here yet.

        Raises NotYours; UnknownTurn if the turn was erased or too much waits already.
        """
        ...

    async def turn(self, turn_id: str, key_id: str | None = None) -> Entry:
        """One turn, for the key that made it, or for a reviewer (None).

        Raises UnknownTurn, NotYours, RecordError.
        """
        ...

    async def page(
        self, after: int = 0, limit: int = 100, *, flagged: bool = False
    ) -> Sequence[Entry]:
        """Turns in the order of arrival, from behind the `seq` given. Empty at the end."""
        ...

    async def last_seq(self) -> int:
        """The `seq` of the turn that arrived last; 0 before the first."""
        ...

    async def latest(self, limit: int = 20) -> Sequence[Entry]:
        """The last flagged turns, newest first, those that can be read."""
        ...

    async def queue(self, after: int = -1, limit: int = 100) -> Sequence[Entry]:
        """Flagged turns not reviewed yet, from behind the `rank` given, highest priority first."""
        ...

    async def prioritise(self, turn_id: str, priority: float) -> None:
        """Move a turn in the queue. Raises UnknownTurn."""
        ...

    async def set_reviewed(self, turn_id: str, reviewed: bool = True) -> None:
        """Take a turn out of the queue, or put it back. Raises UnknownTurn."""
        ...

    async def claim(self, item_id: str, rater_id: str, lease_s: float) -> Claim | None:
        """Hold an item alone for a time, or longer if held already; None: another holds it."""
        ...

    async def release(self, item_id: str, rater_id: str) -> bool:
        """Let go of an item; False: it was not held by this rater."""
        ...

    async def claims(self, item_ids: Sequence[str]) -> Mapping[str, Claim]:
        """Who holds these items now. Items that nobody holds are left out."""
        ...

    async def add_rating(self, rating: Rating) -> None:
        """Store a rating; a later one of the same id replaces it. Raises UnknownTurn."""
        ...

    async def withdraw_rating(self, rating: Rating) -> bool:
        """Forget a rating, as if it had never been; False: it is not there."""
        ...

    async def ratings(self, item_id: str) -> Sequence[Rating]:
        """All ratings of an item, oldest first."""
        ...

    async def erase(self, conversation_id: str, key_id: str) -> int:
        """Erase a conversation of this key for good; later turns of it are not stored either.

        A turn without a conversation is one of its own, named by the turn's id. Returns how
        many turns there were. Raises NotYours if there were only other keys' turns.
        """
        ...

    async def tombstones(self, after: float = 0.0) -> Sequence[Tombstone]:
        """Conversations erased at or after a time."""
        ...

    async def sweep(self) -> int:
        """One bounded step of retention; returns how much it removed, 0 when nothing is due."""
        ...

    async def counters(self) -> Counters: ...


async def entries(
    journal: Journal, *, flagged: bool = False, page: int = 200
) -> AsyncIterator[Entry]:
    """All turns in the order of arrival, a page in memory at a time."""
    after = 0
    while batch := await journal.page(after, page, flagged=flagged):
        for entry in batch:
            yield entry
        after = batch[-1].seq


_LEVELS: Final = 1023
_SEQ_BITS: Final = 42
_URGENT: Final = frozenset({FeedbackKind.REPORT, FeedbackKind.APPEAL})


def level_of(priority: float) -> int:
    """A priority in [0, 1] as one of 1,024 levels, the most urgent being 0."""
    return round((1 - min(max(priority, 0.0), 1.0)) * _LEVELS)


def feedback_level(kind: FeedbackKind) -> int:
    """The level that a turn has at least, once its user spoke."""
    return 0 if kind in _URGENT else _LEVELS


def rank_of(level: int, seq: int) -> int:
    """Position in the queue: by level, then by arrival. Below 2**53, so a float holds it."""
    return (level << _SEQ_BITS) + seq


def parts_of(rank: int) -> tuple[int, int]:
    """Level and seq of a rank."""
    return rank >> _SEQ_BITS, rank & ((1 << _SEQ_BITS) - 1)
