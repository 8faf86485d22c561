"""`safechat eval refusal`: how often a deployed model declines what is harmless."""

from rich.progress import Progress

from safechat.evaluate import needing_extra
from safechat.evaluation import common
from safechat.evaluation.common import Asked, Chosen, measured
from server.cli import err, explained


def refusal(
    url: common.Url,
    prompts: common.Prompts,
    out: common.Out,
    model: common.Model = None,
    guard: common.Guard = None,
    judge: common.Judge = None,
    judge_model: common.JudgeModelName = None,
    split: common.Split = None,
    source: common.Source = None,
    limit: common.Limit = None,
    threshold: common.Threshold = 0.5,
    parallel: common.Parallel = 8,
    temperature: common.Temperature = 0.0,
    max_tokens: common.MaxTokens = 256,
    seed: common.Seed = 0,
    as_json: common.AsJson = False,
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
            from flywheel.evaluation.panel import RunOptions
            from flywheel.evaluation.refusal import measure_refusal
            from flywheel.evaluation.runs.result import Result

        asked = Asked(url, model, guard, judge, judge_model, temperature, max_tokens, seed)
        chosen = Chosen(prompts, tuple(split or ()), tuple(source or ()), limit, seed)
        items = chosen.items()
        options = RunOptions(out, progress, parallel, seed, threshold, chosen.about())

        async def work() -> Result:
            async with asked.panel() as panel:
                return await measure_refusal(items, panel, options)

        measured(work(), out, as_json=as_json)
