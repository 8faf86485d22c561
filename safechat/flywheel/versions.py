"""`safechat flywheel versions`, `register`, `shadow`, `promote`, `rollback`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flywheel.registry import aliases
from flywheel.registry import promotion as steps
from flywheel.registry.gate import Finding
from flywheel.registry.promotion import NotPromoted
from flywheel.registry.versions import BASE, Kind, Registry, RegistryError
from safechat.flywheel.common import AsJson, note
from server.cli import explained
from server.settings import load_settings

Folder = Annotated[
    Path | None,
    typer.Option("--registry", metavar="DIR", help="Default: setting registry.folder."),
]
Of = Annotated[Kind, typer.Option(help="What it is a version of.")]
Name = Annotated[str, typer.Argument(metavar="VERSION", help="As V3.")]


def _registry(folder: Path | None) -> Registry:
    folder = folder or load_settings().registry.folder
    if folder is None:
        raise ValueError("there is no registry: give --registry DIR, or set registry.folder")
    return Registry(folder)


def versions(registry: Folder = None, as_json: AsJson = False) -> None:
    """List versions, their metrics, and which one is live, in shadow, or was live before."""
    with explained():
        found = _registry(registry)
        rows: list[dict[str, Any]] = []
        for kind in Kind:
            now = aliases.read(found, kind)
            for name in [BASE, *found.names(kind)]:
                roles = [role for role in ("live", "previous", "shadow")
                         if getattr(now, role) == name]  # fmt: skip
                version = found.get(kind, name) if name != BASE else None
                rows.append({"kind": kind.value, "version": name, "roles": roles,
                             "parent": version.parent if version else None,
                             "metrics": version.metrics if version else {}})  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("kind", "version", "is", "from", "metrics")
    for row in rows:
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in row["metrics"].items())
        table.add_row(
            row["kind"], row["version"], ", ".join(row["roles"]), row["parent"] or "", metrics
        )
    Console().print(table)


def register(
    kind: Of,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Adapter, or exported models.")],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="An evaluation.jsonl, as evaluations write it; may be repeated."
        ),
    ] = None,
    parent: Annotated[str, typer.Option(help="The version that it was trained from.")] = BASE,
    remark: Annotated[str, typer.Option("--note", help="For people.")] = "",
    registry: Folder = None,
) -> None:
    """Copy a trained model into the registry as a new version, which is never changed again."""
    with explained():
        lines = [line for path in evaluation or () for line in path.read_text("utf-8").split("\n")]
        rows = [json.loads(line) for line in lines if line]
        made = _registry(registry).add(kind, source, parent=parent, note=remark, evaluation=rows)
    typer.echo(made.name)


def shadow(name: Name, kind: Of = Kind.CHAT, registry: Folder = None) -> None:
    """Let a version answer beside the live one, if its evaluation is no worse.

    The gateway mirrors a share of the turns to it (`registry.shadow_share`) and keeps scores.
    Margins are the settings `promotion.…`.
    """
    with explained():
        rules = load_settings().promotion.rules()
        _show(_tried(lambda: steps.enter(_registry(registry), kind, name, rules)))
    note(f"{kind} {name} is in shadow")


def promote(name: Name, kind: Of = Kind.CHAT, registry: Folder = None) -> None:
    """Make the version in shadow the live one, if evaluation and mirrored turns are no worse.

    Running gateways switch within `registry.poll_s`, without dropping a stream.
    """
    with explained():
        rules = load_settings().promotion.rules()
        _show(_tried(lambda: steps.promote(_registry(registry), kind, name, rules)[1]))
    note(f"{kind} {name} is live; `safechat flywheel rollback --kind {kind}` takes it back")


def rollback(kind: Of = Kind.CHAT, registry: Folder = None) -> None:
    """Return to the version that was live before, at once and without a comparison."""
    with explained():
        now = aliases.roll_back(_registry(registry), kind)
    note(f"{kind} {now.live} is live again")


def _tried(work: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return work()
    except NotPromoted as error:
        _show(error.findings)
        raise RegistryError(str(error)) from None


def _show(findings: Sequence[Finding]) -> None:
    table = Table("metric", "items", "before", "after", "worse by", "margin", "")
    for f in findings:
        interval = f"{f.low:+.3f} … {f.high:+.3f}"
        verdict = "passes" if f.passes else f.why
        table.add_row(f.metric, str(f.items), f"{f.before:.3f}", f"{f.after:.3f}", interval,
                      f"{f.margin:g}", verdict)  # fmt: skip
    Console().print(table)
