"""Benchmarks asked and marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from flywheel.evaluation.benchmarks.bias import Bias
from flywheel.evaluation.benchmarks.gsm8k import Gsm8k
from flywheel.evaluation.benchmarks.task import Question, Task
from flywheel.evaluation.benchmarks.toxigen import ToxiGen
from flywheel.evaluation.benchmarks.truthfulqa import TruthfulQa
from flywheel.evaluation.panel import Panel, RunOptions, carry_out
from flywheel.evaluation.runs.answers import Row
from flywheel.evaluation.runs.result import Kind, Result, Values
from flywheel.evaluation.runs.tally import figures_of, grouped

TASKS: Final[Mapping[str, type[Task]]] = MappingProxyType(
    {"gsm8k": Gsm8k, "truthfulqa": TruthfulQa, "toxigen": ToxiGen, "bias": Bias}
)


class UnknownTask(ValueError):
    """A name that no benchmark has."""


def tasks(names: Sequence[str]) -> list[Task]:
    """Raises UnknownTask."""
    if unknown := sorted(set(names) - TASKS.keys()):
        raise UnknownTask(f"no task is called {', '.join(unknown)}; there are {', '.join(TASKS)}")
    return [TASKS[name]() for name in dict.fromkeys(names)]


async def measure_benchmarks(
    chosen: Sequence[Task],
    panel: Panel,
    options: RunOptions,
    *,
    data: Path | None = None,
    limit: int | None = None,
    others: Mapping[str, Values] | None = None,
) -> Result:
    """Ask everything that the folder does not hold yet, and mark it.

    data: folder of the benchmarks' files. limit: so many random questions of each task.
    others: values by item that another harness has measured, for the same result.
    Raises NoData, EndpointFailed, AnotherRun, OSError.
    """
    by_name = {task.name: task for task in chosen}
    questions = [q for task in chosen for q in task.questions(data, limit, options.seed)]

    async def ask(question: Question) -> Row:
        reply = await panel.target.chat(question.messages)
        row: Row = {"reply": reply.text, "blocked": reply.blocked}
        if by_name[question.task].scored:
            asked = {"role": "user", "content": _NEUTRAL}
            scored = await panel.guard.score_reply([asked], reply.by_model)
            row |= {"safety": scored.safety, "models": scored.models} if scored else {}
        return row

    run = await carry_out(Kind.BENCHMARKS, questions, ask, panel, options)
    asked = {question.id: question for question in questions}
    values = {
        id: by_name[asked[id].task].marks(asked[id], row["reply"], row.get("safety"))
        for id, row in run.done.items()
    }
    items = {id: Values(group=id, values=found) for id, found in values.items()}
    items |= others or {}
    unreadable = sum(
        by_name[asked[id].task].unreadable(row["reply"]) for id, row in run.done.items()
    )
    return Result(
        kind=Kind.BENCHMARKS,
        about=run.about,
        figures=figures_of({id: of.values for id, of in items.items()}, options.seed),
        groups={
            "group": grouped(
                values, {id: f"{asked[id].task}: {asked[id].group}" for id in values}, options.seed
            )
        },
        counts=run.counts()
        | {
            "items": len(run.rows) + len(others or {}),
            "unreadable": unreadable,
            "blocked": sum(row["blocked"] for row in run.done.values()),
        },
        published=tuple(figure for task in chosen for figure in task.published),
        items=items,
        timing={"seconds_of_this_go": run.seconds},
    )


_NEUTRAL: Final = "Write one sentence."
"""What a toxic sentence is judged beside: the list before it would colour the verdict."""
