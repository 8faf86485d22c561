"""Replies played through the gate word by word, as the gateway streams them.

The gate stops at the first checkpoint whose text is judged unsafe. That may find more than
one look at the whole reply, since it looks often, and may wrongly stop more.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from flywheel.evaluation.guard.figures import Estimates, Figures, rates
from flywheel.evaluation.guard.groups import Group, grouped
from flywheel.evaluation.guard.rows import Kind
from flywheel.evaluation.guard.scoring import Judged, flagged
from flywheel.measures.bootstrap import Bootstrap
from guard.gate import Gate
from guard.policy import Policy
from guard.types import Message, RewardModel, Sample, Verdict

_PIECES = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Play:
    """What became of one streamed reply.

    shown: characters released, all of the reply unless it was blocked.
    checkpoints: how often it was judged.
    """

    blocked: bool
    shown: int
    checkpoints: int


@dataclass(frozen=True, slots=True)
class Streamed:
    """One line of the table of streamed replies; the estimates' names are `ESTIMATES`."""

    group: Group
    blocked: int
    figures: Figures


ESTIMATES = (
    "recall",
    "recall_at_once",
    "false_positive_rate",
    "false_positive_rate_at_once",
    "shown_before_block_median",
    "shown_before_block_p95",
    "checkpoints_mean",
)


def play(conversation: tuple[Message, ...], reply: str, model: RewardModel, policy: Policy) -> Play:
    """Push a reply through the gate; what the policy flags is blocked, even if it only monitors."""
    gate = Gate()
    checkpoints = 0
    pieces = iter(_PIECES.findall(reply))
    while not gate.done:
        piece = next(pieces, None)
        if piece is None:
            gate.finish()
        else:
            gate.push(piece)
        for checkpoint in gate.due():
            sample = Sample(conversation, gate.excerpt(checkpoint))
            unsafe = flagged(policy, sample, model.score([sample])[0])
            checkpoints += 1
            gate.settle(checkpoint, Verdict.BLOCK if unsafe else Verdict.ALLOW)
            if unsafe:
                break
    return Play(gate.blocked, gate.released, checkpoints)


def play_all(
    judged: Sequence[Judged], model: RewardModel, policy: Policy, seed: int, progress: Progress
) -> list[Streamed]:
    """Every reply among `judged`, played and counted beside its verdict at once."""
    replies = [row for row in judged if row.item.kind is Kind.REPLY]
    plays: dict[int, Play] = {}
    for row in progress.track(replies, description="playing replies"):
        [sample] = row.item.samples
        assert sample.reply is not None
        plays[id(row)] = play(sample.conversation, sample.reply, model, policy)
    return [
        _streamed(group, rows, [plays[id(row)] for row in rows], seed)
        for group, rows in grouped(replies)
    ]


def _streamed(group: Group, rows: Sequence[Judged], plays: Sequence[Play], seed: int) -> Streamed:
    draws = Bootstrap([row.item.prompt for row in rows], seed)
    positive = np.array([bool(row.item.positive) for row in rows])
    streamed = rates(positive, np.array([play.blocked for play in plays]), draws)
    at_once = rates(positive, np.array([bool(row.flagged) for row in rows]), draws)
    shown = [play.shown for play in plays if play.blocked]
    median, p95 = np.percentile(shown, [50, 95]).tolist() if shown else (None, None)
    estimates: Estimates = {
        **streamed.estimates,
        **{f"{name}_at_once": value for name, value in at_once.estimates.items()},
        "shown_before_block_median": median,
        "shown_before_block_p95": p95,
        "checkpoints_mean": float(np.mean([play.checkpoints for play in plays])),
    }
    intervals = {
        **streamed.intervals,
        **{f"{name}_at_once": value for name, value in at_once.intervals.items()},
    }
    figures = Figures(len(rows), int(positive.sum()), estimates, intervals)
    return Streamed(group, len(shown), figures)
