"""`safechat eval helpfulness`: which of two endpoints serves better on the same prompts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from safechat.evaluate import needing_extra
from safechat.evaluation.options import Chosen, Judged, Kept, Prompts, ServedName
from safechat.evaluation.outcome import note
from safechat.grouped import grouped_options
from server.cli import err, explained


@grouped_options
def helpfulness(
    *,
    asked: Judged,
    against: Annotated[str, typer.Option(metavar="URL", help="The endpoint to compare with.")],
    against_model: ServedName = None,
    prompts: Prompts,
    chosen: Chosen,
    tie: Annotated[
        float, typer.Option(min=0, max=1, help="Smaller gaps of helpfulness are ties.")
    ] = 0.05,
    ratings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What people said of DIR/sheet.jsonl.")
    ] = None,
    kept: Kept,
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
            from flywheel.evaluation.runs.result import Result

        items = chosen.items(prompts)
        options = kept.options(progress, chosen.about(prompts))
        said = None
        if ratings is not None:
            said = read_ratings(ratings, {item.id for item in items}, kept.seed)

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
            note(f"wrote {write_sheet(kept.out, items, kept.seed)}")
            if said is None:
                return result
            return result.model_copy(update={"measures": {**result.measures, **agreement(said)}})

        kept.finish(work())
