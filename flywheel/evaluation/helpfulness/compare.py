"""Two endpoints on the same prompts: wins, ties and losses of the first one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from flywheel.evaluation.helpfulness.orders import Outcome, Verdicts, bias
from flywheel.evaluation.panel import Panel, RunOptions, carry_out
from flywheel.evaluation.runs.answers import Row
from flywheel.evaluation.runs.endpoint import Endpoint
from flywheel.evaluation.runs.items import BadItems, Item
from flywheel.evaluation.runs.result import Kind, Result, Values
from flywheel.evaluation.runs.tally import figures_of, grouped

TIE: Final = 0.05
"""Difference of helpfulness, in [0, 1], below which the helpfulness model sees a tie."""
VERDICTS: Final = "verdicts"


def conversation(item: Item) -> list[dict[str, str]]:
    """What both endpoints are asked."""
    history = [message.model_dump() for message in item.history]
    return [*history, {"role": "user", "content": item.turns[0]}]


async def measure_helpfulness(
    items: Sequence[Item],
    panel: Panel,
    against: Endpoint,
    options: RunOptions,
    *,
    tie: float = TIE,
    by_people: Mapping[str, Outcome] | None = None,
) -> Result:
    """Ask everything that the folder does not hold yet, and count, from the target's side.

    against: the other endpoint. tie: see `TIE`. by_people: outcomes by item.
    Raises BadItems for conversations that go on after a reply, EndpointFailed, AnotherRun,
    OSError.
    """
    if long := next((item.id for item in items if len(item.turns) > 1), None):
        raise BadItems(
            f"the item {long!r} has several turns; replies are compared at one point of a "
            "conversation, so write what is before it into messages"
        )

    async def ask(item: Item) -> Row:
        said = conversation(item)
        one, other = await panel.target.chat(said), await against.chat(said)
        scored = [await panel.guard.score_reply(said, reply.text) for reply in (one, other)]
        row: Row = {
            "replies": [one.text, other.text],
            # Who writes nothing helps with nothing.
            "helpfulness": [score.helpfulness if score else 0.0 for score in scored],
            "models": next((score.models for score in scored if score), []),
        }
        if panel.judge is not None:
            row[VERDICTS] = [
                await panel.judge.better(said, one.text, other.text),
                await panel.judge.better(said, other.text, one.text),
            ]
        return row

    other: dict[str, Any] = {"against": against.url, "against_model": await against.model()}
    told = replace(options, about={**options.about, **other})
    run = await carry_out(Kind.HELPFULNESS, items, ask, panel, told)
    categories = {item.id: item.category for item in items}
    people = by_people or {}
    values = {id: values_of(row, tie, people.get(id)) for id, row in run.done.items()}
    verdicts = [Verdicts(*row[VERDICTS]) for row in run.done.values() if VERDICTS in row]
    counts = run.counts()
    if verdicts:
        counts["malformed_verdicts"] = sum(v.outcome is None for v in verdicts)
    return Result(
        kind=Kind.HELPFULNESS,
        about={**run.about, "tie": tie},
        figures=figures_of(values, options.seed),
        groups={"category": grouped(values, {id: categories[id] for id in values}, options.seed)},
        counts=counts,
        measures=bias(verdicts) if verdicts else {},
        items={id: Values(group=id, values=found) for id, found in values.items()},
        timing={"seconds_of_this_go": run.seconds},
    )


def values_of(row: Row, tie: float, by_people: Outcome | None) -> dict[str, float]:
    """What was measured of one pair; of each opinion exactly one of win, tie and loss is 1."""
    one, other = row["helpfulness"]
    gap = one - other
    by_model = Outcome.TIE if abs(gap) < tie else (Outcome.WIN if gap > 0 else Outcome.LOSS)
    found = {"helpfulness": one} | _as_values(by_model, "")
    if VERDICTS in row:
        by_judge = Verdicts(*row[VERDICTS]).outcome
        found |= _as_values(by_judge, "_judge") if by_judge is not None else {}
    return found | (_as_values(by_people, "_people") if by_people is not None else {})


def _as_values(outcome: Outcome, suffix: str) -> dict[str, float]:
    return {f"{name}{suffix}": float(name is outcome) for name in Outcome}
