"""`safechat eval benchmarks`: what a deployed model can do, and whether it is biased."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from safechat.evaluate import needing_extra
from safechat.evaluation.options import Asked, Kept
from safechat.grouped import grouped_options
from server.cli import err, explained


@grouped_options
def benchmarks(
    *,
    asked: Asked,
    task: Annotated[
        list[str] | None,
        typer.Option(help="gsm8k, truthfulqa, toxigen or bias; may be repeated."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the benchmarks' files.")
    ] = None,
    harness: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="A task of lm-evaluation-harness; may be repeated."),
    ] = None,
    harness_tasks: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of its YAML files.")
    ] = Path("tasks"),
    lm_eval: Annotated[str, typer.Option(metavar="PROGRAM", help="Where it is.")] = "lm_eval",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many random questions of each task.")
    ] = None,
    kept: Kept,
) -> None:
    """What a deployed model can do, and whether it is biased, beside published figures.

    \b
      gsm8k       gsm8k.jsonl: sums in words, after eight worked examples
      truthfulqa  truthfulqa.jsonl: the true answer among false ones
      toxigen     toxigen_demonstrations.jsonl: what follows hateful sentences, by the safety model
      bias        sentiment by group and pronouns by occupation, on prompts that come with SafeChat

    Any other task runs through lm-evaluation-harness, if its YAML file reads local data. The
    harness is a program of its own; docs/evaluation.md says how it is installed.

    \b
      safechat eval benchmarks --url http://127.0.0.1:8000 --task bias --out runs/bias
      safechat eval benchmarks --url http://127.0.0.1:8000 --task gsm8k --task truthfulqa \\
        --data benchmarks --limit 200 --out runs/benchmarks
    """  # noqa: D301
    with explained(), Progress(console=err, transient=True) as progress:
        with needing_extra("eval"):
            from flywheel.evaluation.benchmarks.harness import run_harness
            from flywheel.evaluation.benchmarks.measure import measure_benchmarks, tasks
            from flywheel.evaluation.runs.result import Result, Values

        if not (task or harness):
            raise ValueError("name a --task, or a --harness task")
        chosen = tasks(task or ())
        about = {"tasks": task or [], "harness": harness or [], "limit": limit}
        options = kept.options(progress, about)

        async def work() -> Result:
            async with asked.panel() as panel:
                others: dict[str, Values] = {}
                if harness:
                    others = run_harness(
                        lm_eval,
                        harness,
                        include=harness_tasks,
                        url=panel.target.url,
                        model=await panel.target.model(),
                        out=kept.out / "harness",
                        limit=limit,
                        seed=kept.seed,
                        parallel=kept.parallel,
                    )
                return await measure_benchmarks(
                    chosen, panel, options, data=data, limit=limit, others=others
                )

        kept.finish(work())
