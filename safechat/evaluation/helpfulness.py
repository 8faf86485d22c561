"""`safechat eval helpfulness`: which of two endpoints serves better on the same prompts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from safechat.evaluate import needing_extra
from safechat.evaluation import common
from safechat.evaluation.common import Asked, Chosen, measured, note
from server.cli import err, explained


def helpfulness(
    url: common.Url,
    against: Annotated[str, typer.Option(metavar="URL", help="The endpoint to compare with.")],
    prompts: common.Prompts,
    out: common.Out,
    model: common.Model = None,
    against_model: Annotated[
        str | None, typer.Option(help="Its served name; default: the only one.")
    ] = None,
    guard: common.Guard = None,
    judge: common.Judge = None,
    judge_model: common.JudgeModelName = None,
    split: common.Split = None,
    source: common.Source = None,
    limit: common.Limit = None,
    tie: Annotated[
        float, typer.Option(min=0, max=1, help="Smaller gaps of helpfulness are ties.")
    ] = 0.05,
    parallel: common.Parallel = 8,
    temperature: common.Temperature = 0.0,
    max_tokens: common.MaxTokens = 256,
    seed: common.Seed = 0,
    ratings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What people said of DIR/sheet.jsonl.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Wins, ties and losses of one endpoint against another, on the same prompts.

    Three opinions, side by side. The guard's helpfulness model scores both replies. A judge model
    is asked in both orders, and a reply wins only if it is preferred in both places; verdicts that
    contradict each other are ties, and how often the place decided is reported as position bias.
    People get DIR/sheet.jsonl, with random sides; a line of --ratings is

    \b
      {"item": "…", "rater": "ann", "score": 6}

    from 1 (left is much better) over 4 (about the same) to 7 (right is much better). Their median
    counts, and their agreement is Gwet's AC2.

    \b
      safechat eval helpfulness --url http://new:8000 --against http://old:8000 \\
        --guard http://old:8000 --prompts prompts.jsonl --out runs/new-against-old \\
        --judge https://judge.example --judge-model big
    """  # noqa: D301
    with explained(), Progress(console=err, transient=True) as progress:
        with needing_extra("eval"):
            from flywheel.evaluation.helpfulness.compare import measure_helpfulness
            from flywheel.evaluation.helpfulness.sheet import (
                agreement,
                outcomes,
                read_ratings,
                write_sheet,
            )
            from flywheel.evaluation.panel import RunOptions
            from flywheel.evaluation.runs.result import Result

        asked = Asked(url, model, guard, judge, judge_model, temperature, max_tokens, seed)
        chosen = Chosen(prompts, tuple(split or ()), tuple(source or ()), limit, seed)
        items = chosen.items()
        options = RunOptions(out, progress, parallel, seed, about=chosen.about())
        said = None
        if ratings is not None:
            said = read_ratings(ratings, {item.id for item in items}, seed)

        async def work() -> Result:
            async with asked.panel() as panel, asked.endpoint(against, against_model) as other:
                result = await measure_helpfulness(
                    items,
                    panel,
                    other,
                    options,
                    tie=tie,
                    by_people=outcomes(said) if said else None,
                )
            note(f"wrote {write_sheet(out, items, seed)}")
            if said is None:
                return result
            return result.model_copy(update={"measures": {**result.measures, **agreement(said)}})

        measured(work(), out, as_json=as_json)
