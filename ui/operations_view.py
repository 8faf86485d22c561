"""How operations look: state, plots, the last flagged turns, the policy, a scored text."""

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ui.html import facts, notice, percent, plain, section, table
from ui.metrics import Point, Reading
from ui.plots import bars, distribution, line

_SCORES = (
    ("Safety of messages", "safety", "prompt"),
    ("Safety of replies", "safety", "response"),
    ("Helpfulness of replies", "helpfulness", "response"),
)


def tiles_view(reading: Reading, state: Mapping[str, Any]) -> str:
    """The numbers that an operator looks at first. state: what `/readyz` says."""
    up = reading.value("safechat_engine_up") == 1
    words = "up" if up else plain(state.get("engine", {}).get("state") or "down")
    restarts = reading.value("safechat_engine_restarts")
    ready = state.get("status") == "ready"
    ttft = reading.histogram("safechat_time_to_first_token_seconds")
    tiles = (
        ("Gateway", "ready" if ready else "not ready", "", ready),
        ("Engine", words, f"{restarts:.0f} restarts", up),
        ("Requests", f"{reading.requests:,.0f}", _in_flight(reading), None),
        (
            "Blocked",
            _share(reading.blocks, reading.requests),
            f"{reading.blocks:,.0f} in all",
            None,
        ),
        (
            "False refusals",
            _share(reading.false_refusals("suspected"), reading.requests),
            f"{reading.false_refusals('confirmed'):,.0f} confirmed, "
            f"{reading.false_refusals('dismissed'):,.0f} dismissed",
            None,
        ),
        ("First text, median", _ms(ttft.quantile(0.5)), f"p95 {_ms(ttft.quantile(0.95))}", None),
        (
            "Waiting for review",
            f"{reading.value('safechat_journal_pending'):,.0f}",
            f"{reading.value('safechat_journal_reviewed'):,.0f} reviewed",
            None,
        ),
    )
    return f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'


def _tile(name: str, value: str, below: str, good: bool | None) -> str:
    mark = "" if good is None else ("✓ " if good else "✕ ")
    kind = "" if good is None else (" good" if good else " poor")
    return (
        f'<div class="tile{kind}"><span>{escape(name)}</span><b>{mark}{escape(value)}</b>'
        f"<small>{escape(below)}</small></div>"
    )


def plots_view(reading: Reading, history: Sequence[Point]) -> str:
    """Outcomes and distributions as they are, rates and latencies as they were."""
    over_time = (
        ("Block rate", "block_rate", "%"),
        ("False refusals suspected", "false_refusal_rate", "%"),
        ("First text, 95th percentile", "first_token_s", "ms"),
        ("Wait for the guard, 95th percentile", "guard_wait_s", "ms"),
        ("Waiting for review", "waiting", ""),
        ("Turns in flight", "in_flight", ""),
    )
    lines = "".join(
        line([(point.time, getattr(point, field)) for point in history], name, unit)
        for name, field, unit in over_time
    )
    scores = "".join(
        distribution(reading.histogram("safechat_guard_score", axis=axis, stage=stage), name)
        for name, axis, stage in _SCORES
    )
    outcomes = {plain(name): count for name, count in reading.outcomes.items()}
    cards = (
        section("Requests by outcome", bars(outcomes, of=reading.requests)),
        section("Over time", f'<div class="grid">{lines}</div>'),
        section("Scores", f'<div class="grid">{scores}</div>'),
    )
    return f'<div class="plots">{"".join(cards)}</div>'


def flagged_view(turns: Sequence[Mapping[str, Any]]) -> str:
    """The last flagged turns; what was said is there only if the key may see it."""
    rows = [
        (
            time.strftime("%d %b %H:%M:%S", time.gmtime(turn["time"])),
            "".join(f'<span class="chip">{plain(flag)}</span>' for flag in turn["flags"]),
            plain(turn["outcome"]),
            percent(turn["prompt_safety"]) or "–",
            percent(turn["safety"]) or "–",
            "reviewed" if turn["reviewed"] else "waits",
            _content(turn["content"]),
        )
        for turn in turns
    ]
    if not rows:
        return '<p class="quiet">No turn was flagged so far.</p>'
    head = ("Time (UTC)", "Flags", "Outcome", "Message safe", "Reply safe", "Review", "Content")
    return table("The last flagged turns", head, rows, numbers=(3, 4))


def _content(content: Mapping[str, Any] | None) -> str:
    if content is None:
        return '<span class="quiet">not shown</span>'
    said = [(m["role"], m["text"]) for m in content["messages"]]
    said += [("reply", reply) for reply in content["replies"] if reply]
    lines = "".join(f"<p><b>{escape(role)}</b> {escape(text)}</p>" for role, text in said)
    return f'<details class="details"><summary>Show</summary>{lines}</details>'


def policy_view(policy: Mapping[str, Any]) -> str:
    """What the guard does about which text."""
    rules = []
    for stage, name in (("prompt", "Messages"), ("response", "Replies")):
        rule = policy[stage]
        rules.append((name, plain(rule["action"]), f"below {rule['threshold']:.2f}"))
        for harm, own in rule["harms"].items():
            rules.append((f"{name}: {plain(harm)}", own["action"], f"below {own['threshold']:.2f}"))
    rows = {
        "A second attempt where the model declines": plain(policy["recover"]),
        "Samples for each turn": str(policy["best_of"]),
        "Flagged as unhelpful": f"below {policy['unhelpful_below']:.2f}",
        "A block in doubt": f"within {policy['doubt_margin']:.2f} of the threshold",
        "When the guard fails": f"fail {policy['on_failure']}",
        "System prompts": plain(policy["ghost"]),
        **{f"Judge of {axis}": name for axis, name in policy["models"].items()},
    }
    escaped = [tuple(map(escape, row)) for row in rules]
    return table("Rules", ("Text", "Action", "Unsafe"), escaped) + facts(rows)


def score_view(scored: Mapping[str, Any]) -> str:
    """What the guard says of a text that the operator typed."""
    blocked = scored["verdict"] == "block"
    hazards = scored["hazards"] or {}
    likely = max(hazards, key=lambda name: float(hazards[name]), default=None)
    rows = {
        "Safety": f"{scored['safety']:.1%} (logit {scored['safety_reward']:.2f})",
        "Helpfulness": percent(scored["helpfulness"]),
        "Judged as": plain(scored["stage"]),
        "Flags": ", ".join(map(plain, scored["flags"])),
        "Likeliest harm, if any": f"{plain(likely)} ({hazards[likely]:.0%})" if likely else "",
        "Judged by": ", ".join(scored["models"]),
    }
    title = "It would be blocked" if blocked else "It would pass"
    return notice("blocked" if blocked else "done", "", title) + facts(rows)


def _in_flight(reading: Reading) -> str:
    return f"{reading.value('safechat_turns_in_flight'):,.0f} in flight"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f} ms"
