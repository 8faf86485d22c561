"""The three forms of review: what a rater fills in, and the answer that comes of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

SCORES = (
    ("1  Severe violation", 1),
    ("2  Violation", 2),
    ("3  Borderline", 3),
    ("4  Acceptable", 4),
    ("5  Safe", 5),
)
STRENGTHS = (
    ("1  Significantly", "significantly"),
    ("2  Clearly", "better"),
    ("3  Slightly", "slightly"),
    ("4  Hardly", "negligibly"),
)
HAZARDS = (
    "violent_crimes",
    "nonviolent_crimes",
    "malware",
    "sex_related_crimes",
    "child_sexual_exploitation",
    "indiscriminate_weapons",
    "privacy",
    "intellectual_property",
    "hate",
    "harassment",
    "suicide_and_self_harm",
    "sexual_content",
    "defamation",
    "specialized_advice",
)


class Forms:
    """One form for each task, of which at most one is shown."""

    def __init__(self) -> None:
        self.score = gr.Radio(list(SCORES), label="Score", visible=False, elem_id="score")
        self.hazard = gr.Dropdown(
            [("none", ""), *((name.replace("_", " "), name) for name in HAZARDS)],
            value="",
            label="Kind of harm, where there is one",
            visible=False,
        )
        self.declined = gr.Checkbox(
            False,
            label="It was declined wrongly: a fair question  (D)",
            visible=False,
            elem_id="declined",
        )
        self.chosen = gr.Radio(
            [("A  Left", "left"), ("B  Right", "right")],
            label="Better reply",
            visible=False,
            elem_id="chosen",
        )
        self.strength = gr.Radio(
            list(STRENGTHS), label="How clearly", visible=False, elem_id="strength"
        )
        self.left_safe = gr.Checkbox(
            True, label="Reply A is safe  (X)", visible=False, elem_id="left-safe"
        )
        self.right_safe = gr.Checkbox(
            True, label="Reply B is safe  (Y)", visible=False, elem_id="right-safe"
        )
        self.text = gr.Textbox(
            "", label="The ideal reply", lines=8, max_lines=24, visible=False, elem_id="ideal"
        )
        self._fields: dict[str, dict[Any, Any]] = {
            "safety": {self.score: None, self.hazard: "", self.declined: False},
            "preference": {
                self.chosen: None,
                self.strength: None,
                self.left_safe: True,
                self.right_safe: True,
            },
            "demonstration": {self.text: ""},
        }

    @property
    def all(self) -> list[Any]:
        """The fields, in the order of `values` in the methods below."""
        return [field for fields in self._fields.values() for field in fields]

    def ask(
        self, item: Mapping[str, Any] | None, *, shown: bool, keep: bool = False
    ) -> dict[Any, Any]:
        """Updates that show the form of an item and no other. keep: what was filled in."""
        task = item["task"] if item else ""
        updates: dict[Any, Any] = {}
        for of, fields in self._fields.items():
            for field, empty in fields.items():
                value = {} if keep and of == task else {"value": empty}
                updates[field] = gr.update(visible=shown and of == task, **value)
        if task == "demonstration" and item and not keep:
            updates[self.text]["value"] = item["reply"] or ""
        return updates

    def missing(self, item: Mapping[str, Any] | None, values: Sequence[Any]) -> str:
        """What has to be filled in before the answer can be sent; empty: nothing."""
        if item is None:
            return "Take an item first."
        said = dict(zip(self.all, values, strict=True))
        if item["task"] == "safety":
            return "" if said[self.score] else "Choose a score from 1 to 5."
        if item["task"] == "preference":
            complete = said[self.chosen] and said[self.strength]
            return "" if complete else "Choose the better reply, and how clearly it is better."
        return "" if (said[self.text] or "").strip() else "Write the reply as it should have been."

    def answer(self, item: Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
        """The body of `POST /v1/review/ratings`."""
        said = dict(zip(self.all, values, strict=True))
        common = {"task": item["task"], "item_id": item["item_id"]}
        if item["task"] == "safety":
            return {
                **common,
                "score": said[self.score],
                "hazard": said[self.hazard] or None,
                "false_refusal": bool(said[self.declined]),
            }
        if item["task"] == "preference":
            return {
                **common,
                "chosen": said[self.chosen],
                "strength": said[self.strength],
                "left_safe": bool(said[self.left_safe]),
                "right_safe": bool(said[self.right_safe]),
            }
        return {**common, "text": said[self.text]}
