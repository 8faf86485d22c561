"""What the journal reads: pages by key, so that the last one costs what the first does."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from sqlite3 import Row as Found
from typing import Any, Final

from flywheel.journal import (
    Claim,
    Counters,
    Entry,
    NotYours,
    Tombstone,
    UnknownTurn,
    parts_of,
    rank_of,
)
from flywheel.opinions import Feedback, Rating, parse_rating
from flywheel.records import CorruptRecord, NewerRecord, Outcome
from flywheel.rows import decode

_TURNS: Final = """
SELECT t.seq, t.turn_id, t.key_id, t.level, t.flags, t.reviewed, t.body, c.content
FROM turns t LEFT JOIN contents c USING (seq)
"""


@dataclass(frozen=True, slots=True)
class Page:
    """What could be read, what could not (turn id and reason), and where to go on."""

    entries: list[Entry]
    corrupt: dict[str, str]
    last: int | None


def turn(db: Connection, turn_id: str, key_id: str | None) -> Entry:
    found = db.execute(f"{_TURNS} WHERE t.turn_id = ?", (turn_id,)).fetchone()
    if found is None:
        raise UnknownTurn(turn_id)
    if key_id is not None and found["key_id"] != key_id:
        raise NotYours(turn_id)
    return _entry(found, *_opinions(db, [turn_id]))


def page(db: Connection, after: int, limit: int, flagged: bool) -> Page:
    only = "t.flagged = 1 AND " if flagged else ""
    found = db.execute(
        f"{_TURNS} WHERE {only} t.seq > ? ORDER BY t.seq LIMIT ?", (after, limit)
    ).fetchall()
    return _page(db, found, found[-1]["seq"] if found else None)


def last_seq(db: Connection) -> int:
    seq: int = db.execute("SELECT coalesce(max(seq), 0) FROM turns").fetchone()[0]
    return seq


def latest(db: Connection, limit: int) -> Page:
    found = db.execute(f"{_TURNS} WHERE t.flagged ORDER BY t.seq DESC LIMIT ?", (limit,)).fetchall()
    return _page(db, found, None)


def queue(db: Connection, after: int, limit: int) -> Page:
    """By level, then by arrival: the rest of one level, then the levels behind it."""
    level, seq = parts_of(after)
    pending = f"{_TURNS} WHERE t.flagged AND NOT t.reviewed"
    found = db.execute(
        f"{pending} AND t.level = ? AND t.seq > ? ORDER BY t.seq LIMIT ?", (level, seq, limit)
    ).fetchall()
    found += db.execute(
        f"{pending} AND t.level > ? ORDER BY t.level, t.seq LIMIT ?", (level, limit - len(found))
    ).fetchall()
    return _page(db, found, rank_of(found[-1]["level"], found[-1]["seq"]) if found else None)


def ratings(db: Connection, item_id: str) -> list[Rating]:
    found = db.execute("SELECT body FROM ratings WHERE item_id = ? ORDER BY time, id", (item_id,))
    return [parse_rating(row["body"]) for row in found]


def claims(db: Connection, item_ids: Sequence[str], now: float) -> Mapping[str, Claim]:
    found = db.execute(
        f"SELECT * FROM claims WHERE expires > ? AND item_id IN {_marks(item_ids)}",
        (now, *item_ids),
    )
    return {row["item_id"]: Claim(*row) for row in found}


def tombstones(db: Connection, after: float) -> list[Tombstone]:
    found = db.execute(
        "SELECT s.key_id, s.conversation, s.time, group_concat(e.turn_id, ' ') AS turn_ids"
        " FROM tombstones s LEFT JOIN erased_turns e USING (conversation, key_id)"
        " WHERE s.time >= ? GROUP BY s.conversation, s.key_id ORDER BY s.time, s.conversation",
        (after,),
    )
    return [
        Tombstone(
            row["key_id"],
            row["conversation"],
            row["time"],
            tuple(sorted((row["turn_ids"] or "").split())),
        )
        for row in found
    ]


def counters(db: Connection, now: float) -> Counters:
    pending, oldest = db.execute(
        "SELECT count(*), min(time) FROM turns WHERE flagged AND NOT reviewed"
    ).fetchone()
    outcomes = db.execute("SELECT outcome, count FROM outcomes")
    return Counters(
        pending=pending,
        oldest_pending_s=0.0 if oldest is None else max(0.0, now - oldest),
        reviewed=_number(db, "SELECT count(*) FROM turns WHERE reviewed"),
        quarantined=_number(db, "SELECT count(*) FROM quarantine"),
        outcomes={Outcome(row["outcome"]): row["count"] for row in outcomes},
    )


def _page(db: Connection, found: list[Found], last: int | None) -> Page:
    said, rated = _opinions(db, [row["turn_id"] for row in found])
    entries, corrupt = list[Entry](), dict[str, str]()
    for row in found:
        try:
            entries.append(_entry(row, said, rated))
        except CorruptRecord as error:
            corrupt[row["turn_id"]] = str(error)
        except NewerRecord:  # the release that wrote it will read it again
            continue
    return Page(entries, corrupt, last)


_Opinions = tuple[dict[str, list[Feedback]], dict[str, list[Rating]]]


def _opinions(db: Connection, turn_ids: list[str]) -> _Opinions:
    said, rated = defaultdict[str, list[Feedback]](list), defaultdict[str, list[Rating]](list)
    chosen = f"WHERE turn_id IN {_marks(turn_ids)} ORDER BY time, id"
    for row in db.execute(f"SELECT turn_id, body FROM feedback {chosen}", turn_ids):
        said[row["turn_id"]].append(Feedback.model_validate_json(row["body"]))
    for row in db.execute(f"SELECT turn_id, body FROM ratings {chosen}", turn_ids):
        rated[row["turn_id"]].append(parse_rating(row["body"]))
    return said, rated


def _entry(
    row: Found, said: Mapping[str, list[Feedback]], rated: Mapping[str, list[Rating]]
) -> Entry:
    return Entry(
        seq=row["seq"],
        rank=rank_of(row["level"], row["seq"]),
        reviewed=bool(row["reviewed"]),
        record=decode(row["body"], row["flags"], row["content"]),
        feedback=tuple(said.get(row["turn_id"], ())),
        ratings=tuple(rated.get(row["turn_id"], ())),
    )


def _marks(values: Iterable[Any]) -> str:
    return f"({','.join('?' for _ in values)})"


def _number(db: Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])
