"""`safechat flywheel replay`: what another policy, guard or model would have changed."""

import json
import os
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flywheel.replay.report import Report
from flywheel.replay.run import Selection
from flywheel.replay.run import replay as run_again
from flywheel.replay.trail import Trail
from safechat.flywheel.common import (
    AsJson,
    JournalFile,
    note,
    opened_journal,
    progress_bar,
    run,
)
from safechat.flywheel.replay_table import tables
from server.settings import Settings, load_settings

_INTERRUPTED = 130


def replay(
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML settings in place of those in force."),
    ] = None,
    guard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of other reward models.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="URL", help="What makes new replies: an OpenAI API.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of several that the engine serves.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A line for each turn; the same call goes on there."),
    ] = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Flagged turns alone.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many turns, the oldest.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Turns in flight.")] = 8,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of new replies.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of new replies.")] = 512,
    journal: JournalFile = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded turns again in shadow, and show what would change.

    \b
      --policy FILE   other thresholds and actions, written as settings are
      --guard DIR     other reward models
      --engine URL    another chat model, at any address that speaks OpenAI's chat API: a vLLM,
                      a gateway, a service. It answers every recorded conversation anew. A key
                      for it is taken from OPENAI_API_KEY.

    They may be combined; what is not named is as the settings in force say. Without --engine the
    recorded replies are judged again. A reply that nobody made, because its prompt was blocked,
    is an error `not_recorded`; one that a block cut off is known up to there; and where a policy
    would steer, recover or choose, the recorded reply is judged by itself.

    Before is what was recorded, by the models of that time. Nobody is answered, and nothing is
    written to the journal; but a gateway that --engine names records what it is asked. Turns
    without text, such as those past their grace, are left out.

    Ctrl-C stops, and shows what was found by then. With --out nothing is lost by that or by a
    crash: the same command goes on where it stopped. FILE has turn ids and scores, and no text.

    \b
      safechat flywheel replay --policy stricter.toml
      safechat flywheel replay --guard .cache/candidate --flagged --json
      safechat flywheel replay --engine http://127.0.0.1:8001 --out candidate.jsonl
      OPENAI_API_KEY=… safechat flywheel replay --engine https://chat.example.org --model NAME
    """  # noqa: D301
    from safechat.flywheel.shadow import Sampling, open_shadow

    report = Report()

    async def replayed() -> None:
        settings = _settings(policy, guard, engine)
        async with (
            opened_journal(journal) as opened,
            open_shadow(
                settings,
                Sampling(temperature, max_tokens),
                new_replies=engine is not None,
                model=model,
            ) as shadow,
        ):
            total = sum((await opened.counters()).outcomes.values())
            with progress_bar() as progress, ExitStack() as stack:
                task = progress.add_task("replay", total=min(limit or total, total) or None)
                await run_again(
                    opened,
                    shadow.again,
                    report,
                    selection=Selection(flagged=flagged, limit=limit),
                    at_once=at_once,
                    trail=stack.enter_context(Trail(out, shadow.about)) if out else None,
                    progress=lambda: progress.advance(task),
                )

    stopped = False
    try:
        run(replayed())
    except KeyboardInterrupt:
        stopped = True
        note("stopped before the end" + ("; the same command goes on" if out else ""))
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        terminal = Console()
        (terminal if terminal.is_terminal else Console(width=120)).print(*tables(report), sep="\n")
    if stopped:
        raise typer.Exit(_INTERRUPTED)


def _settings(policy: Path | None, guard: Path | None, engine: str | None) -> Settings:
    """The settings in force, and what is to replace them. Raises ValueError, OSError."""
    changed: dict[str, Any] = {}
    if policy is not None:
        with policy.open("rb") as file:
            changed = tomllib.load(file)
    if guard is not None:
        changed["guard"] = {**changed.get("guard", {}), "models": guard}
    if engine is not None:
        # The key of the deployment's own engine is for nobody else.
        reached = {"url": engine, "api_key": os.environ.get("OPENAI_API_KEY")}
        changed["engine"] = {**changed.get("engine", {}), **reached}
    return load_settings(**changed)
