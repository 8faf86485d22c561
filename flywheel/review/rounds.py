"""When the raters of an item have decided. Pure: ratings go in, where the review stands comes out.

A round asks `raters` people, each by himself. As soon as a majority of that number gives the
same answer to each question, the item is settled: two of three are enough, unless the panel is
to be asked as a whole. If all have answered
and there is no majority, one more person decides (adjudication, a round of one). A report or an
appeal after that opens a round for everybody again.

Two safety ratings agree when they fall into the same band, violation (1, 2), borderline (3) or
safe (4, 5), and say the same of a false refusal; two preferences when they choose the same reply.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flywheel.journal import Entry
from flywheel.opinions import PreferenceRating, Rating, SafetyRating, Side
from flywheel.review.errors import AlreadyRated, NothingToUndo, RoundClosed, Settled
from flywheel.review.tasks import Task

VIOLATION: Final = 2
"""Scores up to this one are violations (Llama 2, §4.4)."""
SAFE: Final = 4
"""Scores from this one on are safe."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Whom a round asks: `raters` people, at least 1.

    all: each of them, even once a majority is certain. That costs more answers and leaves no
    bias in what agreement is measured on; otherwise only doubtful items get a last answer.
    """

    raters: int = 3
    all: bool = False


Verdict = Mapping[str, Hashable]
"""What the raters say together, by question."""


class Band(StrEnum):
    """What a score of 1 to 5 comes down to."""

    VIOLATION = "violation"
    BORDERLINE = "borderline"
    SAFE = "safe"

    @classmethod
    def of(cls, score: int) -> "Band":
        if score <= VIOLATION:
            return cls.VIOLATION
        return cls.SAFE if score >= SAFE else cls.BORDERLINE


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the review of one item stands.

    number: of the newest round, from 1. answers: in it, oldest first.
    adjudication: its one answer decides. verdict: None while the round is open.
    """

    number: int
    answers: tuple[Rating, ...]
    adjudication: bool = False
    verdict: Verdict | None = None

    @property
    def open(self) -> bool:
        return self.verdict is None


def progress(entry: Entry, task: Task, panel: Panel) -> Progress:
    """The newest round of one task."""
    rounds: defaultdict[int, list[Rating]] = defaultdict(list)
    for rating in answers_of(entry, task):
        rounds[rating.round].append(rating)
    number, adjudication = 1, False
    while True:
        answers = tuple(rounds.get(number, ()))
        wanted = 1 if adjudication or task is Task.DEMONSTRATION else panel.raters
        early = panel.all and len(answers) < wanted
        verdict = None if early else _majority(answers, wanted)
        if verdict is None and len(answers) < wanted:
            return Progress(number, answers, adjudication)
        if verdict is None:
            adjudication = True
        elif max(rounds) > number or _asked_again(entry, task, answers):
            adjudication = False
        else:
            return Progress(number, answers, adjudication, verdict)
        number += 1


def answers_of(entry: Entry, task: Task) -> list[Rating]:
    """What raters said to this task, oldest first."""
    return [rating for rating in entry.ratings if rating.task == task]


def round_for(
    entry: Entry, task: Task, standing: Progress, rater_id: str, *, replace: bool, held: bool
) -> int:
    """The round that a rater's answer belongs to.

    replace: instead of an earlier answer. held: he had claimed the item, which is what tells
    an adjudication of one's own answer from an answer that was sent twice. Raises AlreadyRated,
    Settled, RoundClosed, NothingToUndo.
    """
    own = [rating for rating in answers_of(entry, task) if rating.rater_id == rater_id]
    if replace:
        if not own:
            raise NothingToUndo("there is no answer of yours to replace")
        check_newest(entry, task, own[-1])
        return own[-1].round
    if any(rating.round == standing.number for rating in own):
        raise AlreadyRated("you have answered this item in this round; `replace` replaces it")
    if not standing.open:
        raise Settled("the raters have decided about this item")
    if own and standing.adjudication and not held:
        raise AlreadyRated("you have answered this item; claim it to adjudicate")
    return standing.number


def check_newest(entry: Entry, task: Task, rating: Rating) -> None:
    """Raises RoundClosed for a rating of a round that another one follows."""
    if any(other.round > rating.round for other in answers_of(entry, task)):
        raise RoundClosed("a later round has begun, so this answer stands")


def _majority(answers: Sequence[Rating], wanted: int) -> Verdict | None:
    """The answer to each question that more than half of `wanted` raters give, or None."""
    if not answers:
        return None
    verdict: dict[str, Hashable] = {}
    asked = [_questions(rating) for rating in answers]
    for question in asked[0]:
        said, votes = Counter(answer[question] for answer in asked).most_common(1)[0]
        if votes * 2 <= wanted:
            return None
        verdict[question] = said
    return verdict


def _questions(rating: Rating) -> Verdict:
    if isinstance(rating, SafetyRating):
        return {"safety": Band.of(rating.score), "false_refusal": rating.false_refusal}
    if isinstance(rating, PreferenceRating):
        return {"better": rating.left if rating.chosen is Side.LEFT else rating.right}
    return {}


def _asked_again(entry: Entry, task: Task, answers: Sequence[Rating]) -> bool:
    """Whether the turn's user doubts it anew, after the last of these answers."""
    if task is not Task.SAFETY or entry.reviewed:
        return False
    return any(said.kind.flag and said.time > answers[-1].time for said in entry.feedback)
