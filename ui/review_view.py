"""How review looks: an item, what is shown of it after the answer, the queue, agreement."""

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ui.desk import TASKS
from ui.html import facts, notice, percent, plain, table

QUESTIONS = {
    "safety": "How safe is this reply?",
    "preference": "Which reply is better?",
    "demonstration": "What should the reply have been?",
}
_ROLES = {"user": "User", "assistant": "Assistant", "system": "System prompt", "tool": "Tool"}
_NO_REPLY = "The guard stopped the message before the model wrote anything: rate the request."
_REFUSED = "The user saw a refusal in place of this text."


def item_view(item: Mapping[str, Any]) -> str:
    """The conversation and what is asked about. All text is shown as it was written."""
    task = str(item["task"])
    said = "".join(_said(m["role"], m["content"]) for m in item["messages"])
    name = escape(item["item_id"], quote=True)
    inside = f"{_heading(item)}{said}{_subject(item, task)}"
    return f'<article class="card item" data-item="{name}">{inside}</article>'


def _heading(item: Mapping[str, Any]) -> str:
    chips = [TASKS.get(item["task"], item["task"]), f"{_ago(item['time'])} ago"]
    chips += [f"Round {item['round']}"] if item["round"] > 1 else []
    chips += ["Adjudication: your answer decides"] if item["adjudication"] else []
    shown = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips)
    reasons = " ".join(escape(reason["words"]) for reason in item["reasons"])
    return f'<p>{shown}</p><p class="why"><b>Why it is here.</b> {reasons}</p>'


def _said(role: str, text: str) -> str:
    name = _ROLES.get(role, plain(role))
    return f'<div class="said {escape(role)}"><b>{escape(name)}</b><p>{escape(text)}</p></div>'


def _subject(item: Mapping[str, Any], task: str) -> str:
    if task == "preference":
        sides = ((side, item[side] or "") for side in ("left", "right"))
        columns = "".join(
            f'<div class="said subject"><b>Reply {letter}</b><p>{escape(text)}</p></div>'
            for letter, (_, text) in zip("AB", sides, strict=True)
        )
        return f'<div class="pair">{columns}</div>'
    if item["reply"] is None:
        return f'<p class="quiet">{_NO_REPLY}</p>'
    below = f'<p class="quiet">{_REFUSED}</p>' if item["refused"] else ""
    return (
        f'<div class="said subject"><b>Reply, as the model wrote it</b>'
        f"<p>{escape(item['reply'])}</p></div>{below}"
    )


def details_view(item: Mapping[str, Any]) -> str:
    """What was kept from the rater until the answer."""
    found: Mapping[str, Any] = item["details"]
    verdict = ", ".join(f"{plain(k)}: {plain(v)}" for k, v in (found["verdict"] or {}).items())
    rows = {
        "Outcome": plain(found["outcome"]),
        "Flags": ", ".join(map(plain, found["flags"])) or "none",
        "The guard on the message": percent(found["prompt_safety"], "safe"),
        "The guard on the reply": percent(found["safety"], "safe"),
        "Helpfulness": percent(found["helpfulness"], "helpful"),
        "Kind of harm": plain(found["hazard"]),
        "Kind of answer": plain(found["refusal"]),
        "The user said": "; ".join(
            f"{plain(f['kind'])} {f['text']}".strip() for f in found["feedback"]
        ),
        "Your sides were": ", ".join(f"{k}: {plain(v)}" for k, v in found["replies"].items()),
        "False refusal": plain(found["false_refusal"]),
        "Verdict": verdict or "open: more people are asked",
        "Model": found["engine_model"] or "",
    }
    answers = "".join(f"<li>{_answer(rating)}</li>" for rating in found["ratings"])
    said = f"<h3>All answers</h3><ul>{answers}</ul>"
    return (
        f'<section class="card"><h2>What you could not see before</h2>{facts(rows)}{said}</section>'
    )


def _answer(rating: Mapping[str, Any]) -> str:
    hidden = {"id", "time"}
    said = (
        f"{plain(name)}: {plain(value)}"
        for name, value in rating["answer"].items()
        if value is not None and name not in hidden
    )
    who = "You" if rating["yours"] else "Another rater"
    note = "" if rating["blind"] else " (after seeing the others)"
    return f"<b>{who}</b>{note}: {escape('; '.join(said))}"


def queue_view(items: Sequence[Mapping[str, Any]]) -> str:
    """The next items, each with a button that opens it."""
    rows = []
    for item in items:
        reasons = " ".join(reason["words"] for reason in item["reasons"])
        name = escape(item["item_id"], quote=True)
        taken = "held by another rater" if item["claimed"] else ""
        button = (
            f'<button type="button" data-act="open" data-turn="{name}" '
            f'aria-label="Open item {item["position"]}">Open</button>'
        )
        state = "adjudication" if item["adjudication"] else f"{item['answers']} so far"
        rows.append(
            (
                str(item["position"]),
                escape(reasons),
                f"{_ago(item['time'])} ago",
                escape(state),
                taken or button,
            )
        )
    if not rows:
        return notice("done", "Nothing waits for you in this task.", "All done")
    return table("Next items", ("", "Why", "When", "Answers", ""), rows)


def status_view(status: Mapping[str, Any]) -> str:
    """How much waits and is done, and what the random sample says of the guard."""
    rows = [
        (
            TASKS.get(task, task),
            str(found["pending"]),
            str(found["adjudication"]),
            str(found["reviewed"]),
            _span(found["oldest_pending_s"]) if found["pending"] else "–",
        )
        for task, found in status["tasks"].items()
    ]
    head = ("Task", "Waiting", "In adjudication", "Settled", "Oldest")
    refusals = ", ".join(f"{n} {plain(state)}" for state, n in status["false_refusals"].items())
    sample = status["sample"]
    drawn = f"{sample['settled']} of {sample['drawn']} blocks drawn by lot are settled"
    if sample["interval"]:
        low, high = sample["interval"]
        drawn += f"; {sample['rate']:.0%} of those were declined wrongly ({low:.0%} to {high:.0%})"
    return (
        table("Progress", head, rows, numbers=(1, 2, 3, 4))
        + f'<p class="quiet">False refusals: {escape(refusals)}. {escape(drawn)}.</p>'
    )


def agreement_view(tasks: Mapping[str, Any]) -> str:
    """How far raters agree so far. The figures are Gwet's and others', up to 1."""
    names = {
        "ac1": "Gwet's AC1",
        "ac2": "Gwet's AC2",
        "fleiss_kappa": "Fleiss' kappa",
        "krippendorff_alpha": "Krippendorff's alpha",
    }
    rows = [
        (
            TASKS.get(task, task),
            str(found["ratings"]),
            str(found["n_paired"]),
            *(_estimate(found, name) for name in names),
        )
        for task, found in tasks.items()
    ]
    if not rows:
        return '<p class="quiet">Nobody has rated yet.</p>'
    head = ("Task", "Ratings", "Rated by two or more", *names.values())
    return table("Agreement", head, rows, numbers=range(1, 7)) + (
        '<p class="quiet">1 is full agreement, 0 is chance. In brackets: 95 % interval. '
        "Only answers given blind are counted.</p>"
    )


def _estimate(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if value is None:
        return "–"
    interval = found.get(f"{name}_interval")
    return f"{value:.2f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")


def _ago(then: float) -> str:
    return _span(max(0.0, time.time() - then))


def _span(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
