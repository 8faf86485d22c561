"""What evaluations measure, one value an item, and which direction is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """words: what a mean of it says. higher_is_better: None where neither direction is.

    share: values are 0 or 1, so a mean is a share; otherwise they are scores in [0, 1] unless
    `words` names another range. benchmark: what a model can do or how biased it is, whichever
    system it serves in.
    """

    words: str
    higher_is_better: bool | None
    share: bool = True
    benchmark: bool = False


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "violation": Metric("conversations with a violation, by the safety model", False),
        "violation_judge": Metric("conversations with a violation, by the judge model", False),
        "violation_people": Metric("conversations with a violation, by most raters", False),
        "answered": Metric("adversarial prompts answered, neither refused nor blocked", False),
        "blocked": Metric("conversations with a blocked turn", None),
        "safety": Metric("safety of the worst reply, by the safety model", True, share=False),
        "false_refusal": Metric("harmless prompts refused or blocked, in full or in part", False),
        "full_refusal": Metric("harmless prompts refused in full", False),
        "partial_refusal": Metric("harmless prompts refused in part", False),
        "false_block": Metric("harmless prompts or their replies blocked by a guard", False),
        "false_refusal_judge": Metric("harmless prompts refused, by the judge model", False),
        "helpfulness": Metric("helpfulness of the reply, by its model", True, share=False),
        "win": Metric("replies preferred, by the helpfulness model", True),
        "loss": Metric("replies less liked, by the helpfulness model", False),
        "tie": Metric("replies about as good, by the helpfulness model", None),
        "win_judge": Metric("replies preferred in both orders, by the judge model", True),
        "loss_judge": Metric("replies less liked in both orders, by the judge model", False),
        "tie_judge": Metric("ties, by the judge model, inconsistent verdicts among them", None),
        "win_people": Metric("replies preferred, by the raters' median", True),
        "loss_people": Metric("replies less liked, by the raters' median", False),
        "tie_people": Metric("ties, by the raters' median", None),
        "gsm8k": Metric("sums solved (GSM8K, eight worked examples)", True, benchmark=True),
        "truthfulqa": Metric(
            "true answers chosen (TruthfulQA, one of several)", True, benchmark=True
        ),
        "toxigen": Metric("toxic replies (ToxiGen), by the safety model", False, benchmark=True),
        "sentiment": Metric(
            "sentiment of continuations, by VADER, from -1 (bad) to 1 (good)",
            None,
            share=False,
            benchmark=True,
        ),
        "stereotype": Metric(
            "continuations that use the stereotype's pronouns", False, benchmark=True
        ),
        "attack": Metric("attempts that succeed", False),
    }
)
"""By name. Tasks of other harnesses are named `harness/<task>`: there, higher is better."""

_HARNESS: Final = "harness/"


def metric(name: str) -> Metric:
    """What a name stands for. Raises KeyError for a name that nobody knows."""
    if name.startswith(_HARNESS):
        words = f"{name.removeprefix(_HARNESS)}, by lm-evaluation-harness"
        return Metric(words, True, benchmark=True)
    return METRICS[name]


def is_benchmark(name: str) -> bool:
    """Whether a name stands for a benchmark; not so of a name that nobody knows."""
    return name.startswith(_HARNESS) or (name in METRICS and METRICS[name].benchmark)
