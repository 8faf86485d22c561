"""Two classifiers: when the second is asked, and what comes of hearing both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.hazards import Hazard
from guard.refusal import suspect_reply
from guard.reward.cascade import Band
from guard.reward.label_cascade import LabelCascade
from guard.reward.load import LABELS_JUDGE, load_classifier
from guard.types import Flag, GuardBroken, Labels, Message, RefusalKind, Sample
from tests.built import BUILT

DOUBT = Band(0.1, 0.9)


@dataclass
class Says:
    """Finds that every reply declines with one probability, and that all harm is of one kind."""

    name: str
    declined: float
    hazard: Hazard = Hazard.PRIVACY
    asked: int = 0

    @property
    def model_id(self) -> str:
        return f"{self.name}@1"

    def label(self, samples: Sequence[Sample]) -> list[Labels]:
        self.asked += len(samples)
        refusals = {RefusalKind.FULL: self.declined, RefusalKind.COMPLIANCE: 1 - self.declined}
        return [
            Labels({self.hazard: 1.0}, {} if s.reply is None else refusals, self.model_id)
            for s in samples
        ]


def reply(text: str | None = "No.") -> Sample:
    return Sample((Message("user", "Why?"),), text)


@pytest.mark.parametrize(
    ("declined", "asked"), [(0.0, 0), (0.09, 0), (0.1, 1), (0.5, 1), (0.89, 1), (0.9, 1), (1.0, 1)]
)
def test_the_second_is_asked_of_what_may_decline(declined: float, asked: int) -> None:
    second = Says("large", 0.5)
    both = LabelCascade(Says("small", declined), second, DOUBT)
    (labels,) = both.label([reply()])
    assert second.asked == asked
    assert labels.model == ("small@1+large@1" if asked else "small@1")


@pytest.mark.parametrize(
    ("first", "second", "declined", "disputed"),
    [(0.95, 0.1, 0.95, True), (0.95, 0.6, 0.95, False), (0.05, 0.9, 0.05, False)],
)
def test_where_the_first_is_sure_its_word_stands_and_a_dispute_is_noted(
    first: float, second: float, declined: float, disputed: bool
) -> None:
    (labels,) = LabelCascade(Says("small", first), Says("large", second), DOUBT).label([reply()])
    assert labels.declined == pytest.approx(declined)
    assert labels.disputed == disputed


def test_a_disputed_refusal_is_not_called_false() -> None:
    flags: set[Flag] = set()
    for first, second, suspected in ((0.95, 0.9, True), (0.95, 0.2, False), (0.45, 0.95, False)):
        both = LabelCascade(Says("small", first), Says("large", second), DOUBT)
        assert (suspect_reply(flags, 0.99, both.label([reply()])[0]) is not None) == suspected


@given(st.floats(0.1, 0.89), st.floats(0.01, 0.99))
def test_what_both_find_lies_between_them_and_adds_up_to_one(first: float, second: float) -> None:
    both = LabelCascade(Says("small", first), Says("large", second), DOUBT)
    (labels,) = both.label([reply()])
    low, high = sorted((first, second))
    assert low - 1e-9 <= labels.declined <= high + 1e-9
    assert sum(labels.refusals.values()) == pytest.approx(1.0)


def test_a_surer_second_opinion_decides() -> None:
    both = LabelCascade(Says("small", 0.6), Says("large", 0.1), DOUBT)
    assert both.label([reply()])[0].refusal is RefusalKind.COMPLIANCE


def test_the_hazard_is_the_firsts_alone() -> None:
    second = Says("large", 0.5, Hazard.WEAPONS)
    both = LabelCascade(Says("small", 0.5), second, DOUBT)
    assert both.label([reply()])[0].hazard is Hazard.PRIVACY
    both.label([reply(None)])
    assert second.asked == 1, "without a reply there is nothing to ask"


def test_there_is_a_pause_between_the_two() -> None:
    both = LabelCascade(Says("small", 0.5), Says("large", 0.5), DOUBT)
    assert len(list(both.steps(reply()))) == 1


@pytest.mark.skipif(
    not (BUILT / LABELS_JUDGE / "model.json").is_file(), reason="needs `make guard`"
)
def test_the_band_in_model_json_says_whether_a_second_one_is_needed(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for path in (BUILT / "labels").iterdir():
        if path.name != "model.json":
            (tmp_path / "labels" / path.name).symlink_to(path)
    card = json.loads((BUILT / "labels" / "model.json").read_text())
    (tmp_path / "labels" / "model.json").write_text(json.dumps(card))
    with pytest.raises(GuardBroken, match="make guard"):
        load_classifier(tmp_path)
    del card["refusal"]["doubt"]
    (tmp_path / "labels" / "model.json").write_text(json.dumps(card))
    assert "+" not in load_classifier(tmp_path).model_id
    assert "+" in load_classifier(BUILT).model_id
