"""How turns look: the reply, two meters, the reasons of a block, and what a user may say."""

import html
from collections.abc import Sequence
from typing import Any

from ui.gateway import Verdict
from ui.html import facts, notice, percent, piece
from ui.text import harmless
from ui.turns import Turn

SAFETY_WORDS = ((0.9, "safe"), (0.7, "probably safe"), (0.5, "doubtful"), (0.0, "unsafe"))
HELPFULNESS_WORDS = ((0.75, "helpful"), (0.5, "fairly helpful"), (0.0, "not very helpful"))
FLAG_WORDS = {
    "refusal": "The model declined to answer.",
    "false_refusal": "The model may have declined without need.",
    "unjudged": "The guard could not judge this turn.",
}
ACTION_WORDS = {
    "steer": "The guard had the model try again, more safely.",
    "recover": "The model declined at first, and was asked once more.",
    "best_of": "The best of several replies is shown.",
}
THANKS = {
    "thumbs_up": "You liked this reply.",
    "thumbs_down": "You did not like this reply.",
    "report": "You reported this reply. People will look at it.",
    "appeal": "You said that this was a fair question. People will look at it.",
}


def view(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The conversation as the chatbot shows it."""
    shown: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        shown.append({"role": "user", "content": harmless(turn.question)})
        content: list[Any] = [harmless(turn.reply)] if turn.reply else []
        below = footer(turn, number)
        if below:
            content.append(piece(below))
        if content:
            shown.append({"role": "assistant", "content": content})
    return shown


def instruction_line(instruction: str) -> str:
    """What is said above the message box while an instruction is in force."""
    if not instruction.strip():
        return ""
    return f'<p title="{html.escape(instruction)}">In force: {html.escape(instruction)}</p>'


def footer(turn: Turn, number: int) -> str:
    """HTML under a reply; `number` is the turn's place, which its buttons name."""
    parts = []
    verdict = turn.verdict
    if verdict is not None:
        if verdict.blocked:
            parts.append(notice("blocked", _block_explained(verdict), "Blocked"))
        parts.append(_meters(turn, verdict))
    if turn.waiting:
        parts.append(f'<div class="notice waiting" role="status">{html.escape(turn.waiting)}</div>')
    if turn.problem:
        parts.append(notice("failed", turn.problem, "No reply" if not turn.reply else "Cut short"))
    if verdict is not None or turn.problem:
        parts.append(_buttons(turn, number))
    return "".join(parts)


def _meters(turn: Turn, verdict: Verdict) -> str:
    scores = _meter("Safety", verdict.safety, SAFETY_WORDS, "poor")
    if not verdict.blocked:
        scores += _meter("Helpfulness", verdict.helpfulness, HELPFULNESS_WORDS, "fair")
    notes = [FLAG_WORDS[f] for f in FLAG_WORDS if f in verdict.flags and not verdict.blocked]
    notes += [ACTION_WORDS[verdict.action]] if verdict.action in ACTION_WORDS else []
    said = f"<span>{' '.join(notes)}</span>" if notes else ""
    if turn.instruction:
        told = html.escape(turn.instruction)
        said += f'<span class="instruction" title="{told}">In force: {told}</span>'
    return f'<div class="verdict">{scores}{said}</div>{_details(turn, verdict)}'


def _meter(name: str, value: float | None, words: Sequence[tuple[float, str]], low: str) -> str:
    """low: the colour below one half, which warns of harm alone."""
    if value is None:
        return ""
    word = next(word for floor, word in words if value >= floor)
    colour = "good" if value >= 0.7 else "fair" if value >= 0.5 else low
    return (
        f'<span class="score" title="{name}, from 0 to 100 %: higher is better">{name}'
        f'<span class="bar" role="meter" aria-label="{name}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{value * 100:.0f}">'
        f'<i class="{colour}" style="width:{value:.0%}"></i></span>'
        f"<b>{word}</b>{value:.0%}</span>"
    )


def _details(turn: Turn, verdict: Verdict) -> str:
    """What stands behind the meters, folded away."""
    rows = {
        "Your message": percent(verdict.stages.get("prompt"), "safe"),
        "The reply": percent(verdict.stages.get("response"), "safe"),
        "Kind of harm": (verdict.hazard or "").replace("_", " "),
        "Kind of answer": verdict.refusal or "",
        "Flags": ", ".join(sorted(verdict.flags)).replace("_", " "),
        "The guard's hand": verdict.action.replace("_", " "),
        "Judged by": ", ".join(f"{axis}: {name}" for axis, name in verdict.models.items()),
        "First text after": "" if turn.first_ms is None else f"{turn.first_ms:,} ms",
        "Whole reply after": "" if turn.all_ms is None else f"{turn.all_ms:,} ms",
        "Instruction in force": turn.instruction,
        "Turn": verdict.turn_id,
    }
    return f'<details class="details"><summary>Details</summary>{facts(rows)}</details>'


def _block_explained(verdict: Verdict) -> str:
    if "unsafe_prompt" in verdict.flags:
        why = "The guard judged the message unsafe to answer, so the model was not let speak."
    elif verdict.shown:
        why = (
            f"The guard judged the reply unsafe and stopped it. The {verdict.shown} characters "
            "shown before that were judged safe."
        )
    else:
        why = "The guard judged the reply unsafe before any of it was shown."
    return f"{why} The model is not told of this turn when you go on."


def _buttons(turn: Turn, number: int) -> str:
    """What the user may do with the turn. ui/doing.js tells the page which button was used."""

    def button(act: str, label: str, words: str, pressed: bool | None = None) -> str:
        state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
        return (
            f'<button type="button" data-act="{act}" data-turn="{number}" '
            f'title="{words}" aria-label="{words}"{state}>{label}</button>'
        )

    found = []
    if turn.verdict is not None and turn.verdict.turn_id:
        if turn.verdict.blocked and "appeal" not in turn.said:
            found.append(
                button("appeal", "This was a fair question", "Ask people to look at this block")
            )
        if not turn.verdict.blocked:
            for act, sign, words in (
                ("thumbs_up", "Helpful", "This reply is helpful"),
                ("thumbs_down", "Not helpful", "This reply is not helpful"),
            ):
                found.append(button(act, sign, words, act in turn.said))
        if "report" not in turn.said:
            found.append(
                '<details class="report"><summary>Report</summary>'
                '<textarea maxlength="4000" rows="2" aria-label="What is wrong with this reply?" '
                'placeholder="What is wrong with it?"></textarea>'
                + button("report", "Send report", "Send this turn to the reviewers")
                + "</details>"
            )
    if turn.needs_key:
        found.append(button("key", "Enter an API key", "Go to the field for the API key"))
    found.append(button("retry", "Try again", "Ask the same again; what follows is dropped"))
    found.append(button("edit", "Edit", "Change the question; what follows is dropped"))
    said = " ".join(THANKS[kind] for kind in turn.said)
    thanks = f'<span class="thanks" role="status">{said}</span>' if said else ""
    return f'<div class="acts">{"".join(found)}{thanks}</div>'
