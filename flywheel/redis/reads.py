"""What the journal reads from Redis, a page at a time, and the rows that cannot be read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from flywheel.journal import (
    Claim,
    Counters,
    Entry,
    NotYours,
    Tombstone,
    UnknownTurn,
    rank_of,
)
from flywheel.opinions import Feedback, Rating, parse_rating
from flywheel.records import CorruptRecord, NewerRecord, Outcome
from flywheel.redis.commands import Commands
from flywheel.rows import decode

_Said = TypeVar("_Said", Feedback, Rating)


async def turn(commands: Commands, turn_id: str, key_id: str | None) -> Entry:
    found: Any = await commands.redis.hgetall(commands.key("turn", turn_id))
    if not found:
        raise UnknownTurn(turn_id)
    if key_id is not None and found["key"] != key_id:
        raise NotYours(turn_id)
    said, rated = await _opinions(commands, [turn_id])
    return _entry(found, said[turn_id], rated[turn_id])


async def page(commands: Commands, after: int, limit: int, *, flagged: bool) -> list[Entry]:
    """Turns in the order of arrival; skips what was removed or cannot be read."""
    while True:
        ids, after = await _arrivals(commands, after, limit, flagged=flagged)
        if not ids:
            return []
        if entries := await _entries(commands, ids):
            return entries


async def last_seq(commands: Commands) -> int:
    return int(await commands.redis.get(commands.key("seq")) or 0)


async def latest(commands: Commands, limit: int) -> list[Entry]:
    ids: Any = await commands.redis.zrange(commands.key("flagged"), 0, limit - 1, desc=True)
    return await _entries(commands, ids)


async def queue(commands: Commands, after: int, limit: int) -> list[Entry]:
    while True:
        ids, after = await _above(commands, "queue", after, limit)
        if not ids:
            return []
        if entries := await _entries(commands, ids):
            return entries


async def ratings(commands: Commands, item_id: str) -> list[Rating]:
    ids: Any = await commands.redis.smembers(commands.key("item", item_id))
    return _in_order(parse_rating(body) for body in await _bodies(commands, sorted(ids)))


async def claims(commands: Commands, item_ids: Sequence[str], now: float) -> Mapping[str, Claim]:
    if not item_ids:
        return {}
    async with commands.redis.pipeline(transaction=True) as pipe:
        pipe.zmscore(commands.key("claims"), list(item_ids))
        pipe.hmget(commands.key("claimants"), list(item_ids))
        ends, raters = await pipe.execute()
    return {
        item: Claim(item, rater, float(end))
        for item, rater, end in zip(item_ids, raters, ends, strict=True)
        if end is not None and end > now
    }


async def tombstones(commands: Commands, after: float) -> list[Tombstone]:
    stones: Any = await commands.redis.zrange(
        commands.key("tombstones"), str(after), "+inf", byscore=True, withscores=True
    )
    async with commands.redis.pipeline(transaction=False) as pipe:
        for name, _ in stones:
            pipe.smembers(commands.key("stone", name))
        turns = await pipe.execute()
    found = list[Tombstone]()
    for (name, time), turn_ids in zip(stones, turns, strict=True):
        key_id, conversation = orjson.loads(name)
        found.append(Tombstone(key_id, conversation, time, tuple(sorted(turn_ids))))
    return found


async def counters(commands: Commands, now: float) -> Counters:
    async with commands.redis.pipeline(transaction=True) as pipe:
        pipe.zcard(commands.key("pending"))
        pipe.zrange(commands.key("pending"), 0, 0, withscores=True)
        pipe.scard(commands.key("reviewed"))
        pipe.hlen(commands.key("quarantine"))
        pipe.hgetall(commands.key("outcomes"))
        pending, oldest, reviewed, quarantined, outcomes = await pipe.execute()
    return Counters(
        pending=pending,
        oldest_pending_s=max(0.0, now - oldest[0][1]) if oldest else 0.0,
        reviewed=reviewed,
        quarantined=quarantined,
        outcomes={Outcome(name): int(count) for name, count in outcomes.items()},
    )


async def _arrivals(
    commands: Commands, after: int, limit: int, *, flagged: bool
) -> tuple[list[str], int]:
    """Ids of turns from behind a seq, and the seq of the last of them."""
    if flagged:
        return await _above(commands, "flagged", after, limit)
    stream: Any = await commands.redis.xrange(commands.key("turns"), min=f"({after}-0", count=limit)
    last = int(stream[-1][0].split("-")[0]) if stream else after
    return [fields["turn"] for _, fields in stream], last


async def _above(commands: Commands, index: str, after: int, limit: int) -> tuple[list[str], int]:
    """The next ids of a sorted set from above a score, and the score of the last of them."""
    found: Any = await commands.redis.zrange(
        commands.key(index),
        f"({after}",
        "+inf",
        byscore=True,
        offset=0,
        num=limit,
        withscores=True,
    )
    return [turn_id for turn_id, _ in found], int(found[-1][1]) if found else after


async def _entries(commands: Commands, turn_ids: list[str]) -> list[Entry]:
    async with commands.redis.pipeline(transaction=False) as pipe:
        for turn_id in turn_ids:
            pipe.hgetall(commands.key("turn", turn_id))
        turns: list[dict[str, str]] = await pipe.execute()
    said, rated = await _opinions(commands, turn_ids)
    entries = list[Entry]()
    for turn_id, found in zip(turn_ids, turns, strict=True):
        if not found:  # erased since its id was read
            continue
        try:
            entries.append(_entry(found, said[turn_id], rated[turn_id]))
        except CorruptRecord as error:
            if not commands.read_only:
                await commands.quarantine(turn_id, str(error))
        except NewerRecord:  # the release that wrote it will read it again
            continue
    return entries


async def _opinions(
    commands: Commands, turn_ids: list[str]
) -> tuple[dict[str, list[Feedback]], dict[str, list[Rating]]]:
    async with commands.redis.pipeline(transaction=False) as pipe:
        for turn_id in turn_ids:
            pipe.hvals(commands.key("feedback", turn_id))
            pipe.smembers(commands.key("rated", turn_id))
        answers: list[Any] = await pipe.execute()
    said = {
        turn_id: _in_order(_feedback(envelope) for envelope in envelopes)
        for turn_id, envelopes in zip(turn_ids, answers[::2], strict=True)
    }
    rated = defaultdict[str, list[Rating]](list)
    ids = sorted(set().union(*answers[1::2]))
    for rating in _in_order(parse_rating(body) for body in await _bodies(commands, ids)):
        rated[str(rating.turn_id)].append(rating)
    return said, rated


async def _bodies(commands: Commands, rating_ids: Sequence[str]) -> list[str]:
    if not rating_ids:
        return []
    found: Any = await commands.redis.hmget(commands.key("ratings"), list(rating_ids))
    return [body for body in found if body is not None]


def _feedback(envelope: str) -> Feedback:
    return Feedback.model_validate_json(orjson.loads(envelope)["body"])


def _in_order(said: Iterable[_Said]) -> list[_Said]:
    return sorted(said, key=lambda one: (one.time, one.id))


def _entry(found: Mapping[str, str], said: list[Feedback], rated: list[Rating]) -> Entry:
    seq = int(found["seq"])
    return Entry(
        seq=seq,
        rank=rank_of(int(found["level"]), seq),
        reviewed=found["reviewed"] == "1",
        record=decode(found["body"], found["flags"], found.get("content")),
        feedback=tuple(said),
        ratings=tuple(rated),
    )
