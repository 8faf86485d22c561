"""From a candidate to the live version: measured, then in shadow, then by a switch.

1. `enter`: the evaluation of the candidate passes the gate against the live version's, on
   the same items. It answers in shadow from now on.
2. The gateway mirrors a share of live turns to it. Nobody sees its replies; the scores of
   both replies, without any text, go into `shadow-V3.jsonl`.
3. `promote`: enough mirrored turns pass the same gate. The alias switches.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from flywheel.registry import aliases
from flywheel.registry.aliases import Aliases
from flywheel.registry.gate import Finding, Margins, Metric, decide
from flywheel.registry.versions import Kind, Registry, RegistryError


class NotPromoted(RegistryError):
    """The gate stays closed. findings: what was compared."""

    def __init__(self, message: str, findings: list[Finding]) -> None:
        super().__init__(message)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Rules:
    """shadow_turns: mirrored turns that a chat model needs; 0: no shadow."""

    margins: Margins = field(default_factory=Margins)
    shadow_turns: int = 200


def enter(registry: Registry, kind: Kind, name: str, rules: Rules) -> list[Finding]:
    """Step 1. Returns what passed. Raises NotPromoted, RegistryError."""
    live = aliases.read(registry, kind).live
    findings = compare(registry, kind, live, name, rules.margins)
    _pass("its evaluation", findings)
    aliases.to_shadow(registry, kind, name)
    return findings


def promote(
    registry: Registry, kind: Kind, name: str, rules: Rules
) -> tuple[Aliases, list[Finding]]:
    """Step 3. Raises NotPromoted, RegistryError."""
    now = aliases.read(registry, kind)
    if now.shadow != name:
        raise RegistryError(f"{kind} {name} is not in shadow: `safechat flywheel shadow` first")
    findings = compare(registry, kind, now.live, name, rules.margins)
    _pass("its evaluation", findings)
    if kind is Kind.CHAT and rules.shadow_turns:
        margins = replace(rules.margins, items=rules.shadow_turns)
        rows = list(mirrored(registry, name, now.live))
        found = decide(
            _side(rows, "live"), _side(rows, "shadow"), margins,
            (Metric.VIOLATION, Metric.HELPFULNESS),
        )  # fmt: skip
        _pass("the mirrored turns", found)
        findings += found
    return aliases.go_live(registry, kind, name), findings


def compare(registry: Registry, kind: Kind, old: str, new: str, margins: Margins) -> list[Finding]:
    """The gate's findings, without any consequence. Raises RegistryError."""
    registry.verified(kind, new)
    metrics = tuple(Metric)
    if kind is Kind.SAFETY:
        metrics = (Metric.VIOLATION, Metric.FALSE_REFUSAL)
    elif kind is Kind.HELPFULNESS:
        metrics = (Metric.HELPFULNESS,)
    before = registry.evaluation(kind, old)
    if not before:
        where = registry.folder(kind, old) / "evaluation.jsonl"
        raise RegistryError(
            f"the live version, {kind} {old}, was never measured: evaluate it on the same items "
            f"and put the rows into {where}"
        )
    return decide(
        before,
        registry.evaluation(kind, new),
        margins,
        metrics,
        benchmarks=kind is Kind.CHAT,
    )


def mirrored(registry: Registry, name: str, live: str) -> Iterator[dict[str, Any]]:
    """Scores of mirrored turns, the candidate's beside those of the version that is live."""
    path = registry.root / Kind.CHAT / f"shadow-{name}.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            row = json.loads(line)
            if row["live_version"] == live:
                yield row


def _side(rows: list[dict[str, Any]], side: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        for metric, value in row[side].items():
            yield {"key": row["turn_id"], "metric": metric, "value": value}


def _pass(what: str, findings: list[Finding]) -> None:
    failed = [f"{f.metric}: {f.why}" for f in findings if not f.passes]
    if failed:
        raise NotPromoted(f"{what} does not let it through: {'; '.join(failed)}", findings)
