"""Loads the shipped guard: a reward model for each axis, and the classifier beside them."""

from pathlib import Path

from guard.reward.cascade import load_cascade
from guard.reward.embedded import EmbeddedRewardModel
from guard.reward.label_cascade import LabelCascade
from guard.reward.labels import EmbeddedClassifier
from guard.reward.selftest import self_test
from guard.types import Axis, Classifier, GuardBroken, RewardModel

LABELS, LABELS_JUDGE = "labels", "labels_judge"


def load_reward_model(models: Path, axis: Axis, threads: int = 1) -> RewardModel:
    """The exported model of one axis, self-tested. models: the folder that holds them all.

    Raises GuardBroken when a model is missing or fails its self-test.
    """
    if axis is Axis.SAFETY:
        cascade = load_cascade(models, threads)
        # Each by itself: the known cases are clear, so the second would hardly ever be asked.
        self_test(cascade.first)
        self_test(cascade.second)
        return cascade
    try:
        model = EmbeddedRewardModel(models / axis.value, threads=threads)
    except FileNotFoundError as error:
        raise _not_built(error) from error
    self_test(model)
    return model


def load_classifier(models: Path, threads: int = 1) -> Classifier:
    """The exported classifier, with the second one if its model.json names a band of doubt.

    Raises GuardBroken when one of them is missing.
    """
    try:
        first = EmbeddedClassifier(models / LABELS, threads=threads)
        if first.doubt is None:
            return first
        second = EmbeddedClassifier(models / LABELS_JUDGE, threads=threads)
    except FileNotFoundError as error:
        raise _not_built(error) from error
    return LabelCascade(first, second, first.doubt)


def _not_built(error: FileNotFoundError) -> GuardBroken:
    return GuardBroken(f"{error}; run `make guard` to build the shipped models")
