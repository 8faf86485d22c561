"""The pairs of a run for people: a sheet with random sides, and ratings from 1 to 7 read back.

1 says that the left reply is much better, 4 that both are about as good, 7 that the right one is
much better. A sheet says nothing of who wrote what; the sides follow from the run's seed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, Field, ValidationError

from flywheel.agreement.ratings import Item as RatedItem
from flywheel.agreement.ratings import Scale
from flywheel.agreement.report import summarise
from flywheel.agreement.weights import Weights
from flywheel.evaluation.helpfulness.compare import conversation
from flywheel.evaluation.helpfulness.orders import Outcome
from flywheel.evaluation.runs.answers import kept_rows
from flywheel.evaluation.runs.items import Item
from flywheel.records import masked

SHEET_FILE: Final = "sheet.jsonl"
_MIDDLE: Final = 4
_SCALE: Final = tuple(range(1, 8))


class _Rating(BaseModel, extra="forbid"):
    item: str
    rater: str = Field(min_length=1)
    score: Annotated[int, Field(ge=1, le=7, strict=True)]


class BadRatings(ValueError):
    """A file of ratings cannot be used."""


def target_is_left(item_id: str, seed: int) -> bool:
    """On which side the target's reply stands: by lot, and the same for one seed."""
    return bool(sha256(f"{seed}\0{item_id}".encode()).digest()[0] & 1)


def write_sheet(folder: Path, items: Sequence[Item], seed: int) -> Path:
    """One line a pair of a run: item, messages, left, right. Raises OSError."""
    path, rows = folder / SHEET_FILE, kept_rows(folder)
    with path.open("wb") as file:
        for item in items:
            if "replies" not in rows.get(item.id, {}):
                continue
            one, other = rows[item.id]["replies"]
            left, right = (one, other) if target_is_left(item.id, seed) else (other, one)
            line = {
                "item": item.id,
                "messages": conversation(item),
                "left": left,
                "right": right,
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return path


def read_ratings(path: Path, known: set[str], seed: int) -> dict[str, dict[str, int]]:
    """By item and rater, from 1 to 7, turned so that 7 speaks for the target.

    A line is {"item", "rater", "score"}; of one rater's lines for an item the last counts.
    Raises OSError, BadRatings.
    """
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rating = _Rating.model_validate_json(line)
        except ValidationError as error:
            raise BadRatings(f"{path}, line {number}: {masked(error)}") from None
        if rating.item not in known:
            raise BadRatings(f"{path}, line {number}: the run has no item {rating.item!r}")
        left = target_is_left(rating.item, seed)
        found[rating.item][rating.rater] = 8 - rating.score if left else rating.score
    if not found:
        raise BadRatings(f"{path}: no ratings at all")
    return dict(found)


def outcomes(ratings: Mapping[str, Mapping[str, int]]) -> dict[str, Outcome]:
    """By item, from the raters' median."""
    middles = {item: median(said.values()) for item, said in ratings.items()}
    return {
        item: Outcome.TIE
        if middle == _MIDDLE
        else (Outcome.WIN if middle > _MIDDLE else Outcome.LOSS)
        for item, middle in middles.items()
    }


def agreement(ratings: Mapping[str, Mapping[str, int]]) -> dict[str, float | None]:
    """Gwet's AC2 with quadratic weights, its interval, and how many raters there were."""
    items = [
        RatedItem(item, said, {score: list(said.values()).count(score) for score in said.values()})
        for item, said in ratings.items()
    ]
    ac2 = summarise(items, Scale(_SCALE, ordered=True), Weights.QUADRATIC).estimates["ac2"]
    low, high = ac2.interval or (None, None)
    raters = {rater for said in ratings.values() for rater in said}
    return {"ac2": ac2.value, "ac2_low": low, "ac2_high": high, "raters": float(len(raters))}
