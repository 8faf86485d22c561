"""One choice of a turn: what the engine sent, what is judged of it, what may leave.

Pure: chunks and verdicts go in, deltas come out. All text that the model makes (content,
reasoning, tool calls) runs through one gate in the order in which it came, so a tool
call's arguments are judged as any other text.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from guard.gate import Checkpoint, Gate
from guard.guard import Guard
from guard.hazards import Hazard
from guard.policy import Action, Decision
from guard.refusal import FalseRefusal, suspect_block, suspect_reply
from guard.types import Axis, Flag, Labels, RefusalKind, Score, Stage, Verdict

Json = dict[str, Any]


@dataclass(slots=True)
class _Piece:
    """Text of one channel, not yet released. Its extras leave with it.

    head: fields of the delta that come before the text (a tool call's id and name).
    logprobs: entries that may leave once the whole text has left.
    """

    channel: str
    text: str
    end: int
    head: Json | None = None
    logprobs: list[Any] | None = None


@dataclass(slots=True)
class Release:
    """A delta that may be shown. `guard` and `finish_reason` come with the last one."""

    index: int
    delta: Json
    logprobs: list[Any] | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    guard: Json | None = None


@dataclass(slots=True)
class Judgement:
    """What the guard found out about a prompt or about one choice.

    action: how the served reply came about, where the guard had a hand in it.
    steered: of a prompt, that its replies are made again under a safety preprompt.
    refusal: how the reply meets its request; `refusal_probability` in [0, 1] belongs to it.
    """

    safety: float | None = None
    helpfulness: float | None = None
    flags: set[Flag] = field(default_factory=set)
    verdict: Verdict = Verdict.ALLOW
    action: str = "none"
    steered: bool = False
    hazard: Hazard | None = None
    refusal: RefusalKind | None = None
    refusal_probability: float | None = None
    false_refusal: FalseRefusal | None = None

    @property
    def refuses(self) -> bool:
        return self.refusal is not None and self.refusal.refuses

    def lower_safety(self, value: float) -> None:
        """A reply is as safe as its least safe part."""
        self.safety = value if self.safety is None else min(self.safety, value)

    def follow(self, decision: Decision) -> None:
        """Take over what the policy decided."""
        self.verdict = decision.verdict
        self.flags |= decision.flags
        if decision.action is not None:
            self.hazard = decision.hazard
        if decision.verdict is Verdict.BLOCK:
            self.action = Action.BLOCK.value
            self.flags.add(Flag.REFUSAL)
            self.suspect(suspect_block(decision))

    def describe(self, labels: Labels, prompt_safety: float | None) -> None:
        """Take over how the whole reply meets its request. prompt_safety: of the request."""
        self.refusal = labels.refusal
        if labels.refusal is not None:
            self.refusal_probability = labels.refusals[labels.refusal]
        if self.refuses:
            self.flags.add(Flag.REFUSAL)
        self.suspect(suspect_reply(self.flags, prompt_safety, labels))

    def suspect(self, found: FalseRefusal | None) -> None:
        if found is not None:
            self.false_refusal = found
            self.flags.add(Flag.FALSE_REFUSAL)


class Choice:
    """The guarded reply with one index. `guard` decides, `turn_id` goes into the last event.

    held: nothing of it is shown until the turn decides to serve it.
    """

    def __init__(
        self, index: int, guard: Guard, turn_id: str, prompt: Judgement, *, held: bool = False
    ) -> None:
        self.index = index
        self.gate = Gate(guard.schedule)
        self.judgement = Judgement(
            flags=set(prompt.flags), hazard=prompt.hazard, false_refusal=prompt.false_refusal
        )
        self.held = held
        self.steered = False  # blocked before it was shown, where another attempt is allowed
        self.finished = False  # the last release has been taken
        self._guard = guard
        self._turn_id = turn_id
        self._prompt = prompt
        self._pieces: deque[_Piece] = deque()
        self._finish_reason: str | None = None
        self._stop_reason: Any = None
        self._channel = "content"
        self._withdrawn = False  # blocked before any of it was shown

    @property
    def finish_reason(self) -> str | None:
        """Why the reply ended, as the client was told; None if it was broken off."""
        return "content_filter" if self.gate.blocked else self._finish_reason

    @property
    def over(self) -> bool:
        """Nothing more can be taken unless the turn decides to serve it."""
        return self.finished or (self.held and self.gate.done)

    @property
    def shown(self) -> int:
        """Characters that have left, or may leave now."""
        return 0 if self.held or self._withdrawn else self.gate.released

    @property
    def generating(self) -> bool:
        """Whether more text of the engine is of use."""
        return self._finish_reason is None and not self.gate.blocked

    def push(self, chunk: Json) -> None:
        """Take one choice of one engine chunk."""
        if not self.generating:
            return
        delta = chunk.get("delta") or {}
        content = delta.get("content") or ""
        logprobs = _beside(content, (chunk.get("logprobs") or {}).get("content"))
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        if reasoning:
            self._add("reasoning", reasoning)
        if content:
            self._add("content", content, logprobs=logprobs)
        for call in delta.get("tool_calls") or ():
            self._add_tool_call(call)
        if (reason := chunk.get("finish_reason")) is not None:
            self._finish_reason = reason
            self._stop_reason = chunk.get("stop_reason")
            self.gate.finish()

    def settle(self, checkpoint: Checkpoint, decision: Decision | None) -> None:
        """Apply a decision to a checkpoint; None: the guard could not judge, and fails open."""
        if self.gate.blocked:
            return
        if decision is None:
            self.judgement.flags.add(Flag.UNJUDGED)
            self.gate.settle(checkpoint, Verdict.ALLOW)
            return
        if decision.verdict is Verdict.BLOCK:
            self._withdrawn = self.shown == 0
            self.steered = self._withdrawn and decision.action is Action.STEER
            self.held = self.held or self.steered
        self.judgement.follow(decision)
        self.gate.settle(checkpoint, decision.verdict)

    def serve(self) -> None:
        """Show what was held back: the turn has decided for this choice."""
        self.held = False
        self.index = 0

    def rate(self, helpfulness: Score | None) -> None:
        """Take the helpfulness of the whole reply, before its last checkpoint is settled."""
        if helpfulness is None:
            self.judgement.flags.add(Flag.UNJUDGED)
            return
        self.judgement.helpfulness = helpfulness.value
        self.judgement.flags |= self._guard.policy.rate(helpfulness)

    def describe(self, labels: Labels) -> None:
        """Take how the whole reply meets its request, before its last checkpoint is settled."""
        self.judgement.describe(labels, self._prompt.safety)

    def take(self) -> list[Release]:
        """What may be shown now. The last of it carries `finish_reason` and `guard`."""
        if self.finished or self.held:
            return []
        releases = [] if self._withdrawn else self._releasable()
        if self.gate.blocked:
            return [*releases, self.refuse(Stage.RESPONSE)]
        if self.gate.done:
            self.finished = True
            last = releases.pop() if releases else Release(self.index, {})
            last.finish_reason = self._finish_reason
            last.stop_reason = self._stop_reason
            last.guard = self._report()
            releases.append(last)
        return releases

    def refuse(self, stage: Stage) -> Release:
        """The last release of a blocked choice: the refusal text takes the reply's place."""
        self.finished = True
        if stage is Stage.PROMPT:
            self.judgement.verdict = Verdict.BLOCK
            self.judgement.action = self._prompt.action
            self.judgement.safety = self._prompt.safety
        refusal = self._guard.policy.refusal(stage, self.judgement.hazard)
        delta = {"content": f"\n\n{refusal}" if self.shown else refusal}
        return Release(self.index, delta, finish_reason="content_filter", guard=self._report(stage))

    def _add_tool_call(self, call: Json) -> None:
        function = call.get("function") or {}
        head = {k: call[k] for k in ("id", "type") if call.get(k)}
        if name := function.get("name"):
            head["function"] = {"name": name}
        if head:
            # Some parsers take a call's id, too, from what the model wrote.
            self._hidden(f"\n{head.get('id', '')} {name or ''}: ")
        channel = f"tool:{call.get('index', 0)}"
        if head or function.get("arguments"):
            self._add(channel, function.get("arguments") or "", head=head or None)

    def _add(
        self, channel: str, text: str, head: Json | None = None, logprobs: list[Any] | None = None
    ) -> None:
        if channel != self._channel and self.gate.text:
            self._hidden("\n")
        self._channel = channel
        self.gate.push(text)
        self._pieces.append(_Piece(channel, text, len(self.gate.text), head, logprobs))

    def _hidden(self, text: str) -> None:
        """Text that is judged with its surroundings and shown to nobody."""
        self.gate.push(text)
        self._pieces.append(_Piece("", text, len(self.gate.text)))

    def _releasable(self) -> list[Release]:
        releases: list[Release] = []
        channel, texts, head = "", list[str](), None
        logprobs: list[Any] = []

        def flush() -> None:
            if channel and (texts or head or logprobs):
                delta = _delta(channel, "".join(texts), head)
                releases.append(Release(self.index, delta, logprobs[:] or None))
            texts.clear()
            logprobs.clear()

        while self._pieces:
            piece = self._pieces[0]
            start = piece.end - len(piece.text)
            if piece.end > self.gate.released and start >= self.gate.released:
                break
            if piece.channel != channel or piece.head:
                flush()
                channel, head = piece.channel, piece.head
            if piece.end > self.gate.released:
                cut = self.gate.released - start
                texts.append(piece.text[:cut])
                piece.text, piece.head = piece.text[cut:], None
                break
            self._pieces.popleft()
            texts.append(piece.text)
            logprobs += piece.logprobs or ()
        flush()
        return releases

    def _report(self, stage: Stage = Stage.RESPONSE) -> Json:
        """The `guard` object of the last event."""
        found = self.judgement
        axes = [Axis.SAFETY] if stage is Stage.PROMPT else list(Axis)
        return {
            "turn_id": self._turn_id,
            "verdict": found.verdict.value,
            "safety": _rounded(found.safety),
            "helpfulness": _rounded(found.helpfulness),
            "flags": sorted(found.flags),
            "action": found.action,
            "hazard": found.hazard,
            "risk": found.hazard and found.hazard.risk,
            "refusal": found.refusal,
            "shown_before_block": self.shown if self.gate.blocked else 0,
            "stages": {
                "prompt": _rounded(self._prompt.safety),
                "response": None if stage is Stage.PROMPT else _rounded(found.safety),
            },
            "models": {axis.value: self._guard.models[axis] for axis in axes},
        }


def _beside(content: str, logprobs: list[Any] | None) -> list[Any] | None:
    """Log-probabilities that spell exactly the text beside them; others are dropped.

    The engine holds text back that may become a stop string or a whole character, and
    sends the tokens' log-probabilities at once: they would tell text that is not judged.
    """
    if not logprobs:
        return None
    spelt = "".join(str(entry.get("token", "")) for entry in logprobs)
    return logprobs if spelt == content else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _delta(channel: str, text: str, head: Json | None) -> Json:
    if channel in ("content", "reasoning"):
        return {channel: text}
    head = dict(head or {})
    function = {**head.pop("function", {}), "arguments": text}
    return {"tool_calls": [{"index": int(channel[5:]), **head, "function": function}]}
