"""`safechat eval refusal`: how often a deployed model declines what is harmless."""

from rich.progress import Progress

from safechat.evaluate import needing_extra
from safechat.evaluation.options import Chosen, Judged, Kept, Prompts, Threshold
from safechat.grouped import grouped_options
from server.cli import err, explained


@grouped_options
def refusal(
    *,
    asked: Judged,
    prompts: Prompts,
    chosen: Chosen,
    threshold: Threshold = 0.5,
    kept: Kept,
) -> None:
    """How often a deployed model declines harmless and borderline prompts, in full or in part.

    Rows are as for `safechat eval safety`; `role` is harmless (the default), borderline or
    adversarial, and `harmful` 0 or 1 will do as well. The guard's refusal classifier tells full
    and partial refusals; a block counts as a full one, a lack of ability as none. A judge model
    says the same in its own way.

    Adversarial rows are counted as for `safechat eval safety`, and make the trade-off curve: as a
    guard's threshold moves, how many harmless prompts are declined and how many adversarial ones
    are still answered? To see all of it, ask the bare engine and name the gateway as --guard.

    \b
      safechat eval refusal --url http://127.0.0.1:8000 --prompts harmless.jsonl --out runs/refusal
      safechat eval refusal --url http://gpu1:8000 --guard http://127.0.0.1:8000 \\
        --prompts harmless.jsonl --prompts attacks.jsonl --out runs/trade-off
    """  # noqa: D301
    with explained(), Progress(console=err, transient=True) as progress:
        with needing_extra("eval"):
            from flywheel.evaluation.refusal import measure_refusal
            from flywheel.evaluation.runs.result import Result

        items = chosen.items(prompts)
        options = kept.options(progress, chosen.about(prompts), threshold)

        async def work() -> Result:
            async with asked.panel() as panel:
                return await measure_refusal(items, panel, options)

        kept.finish(work())
