"""GSM8K: sums in words (Cobbe et al. 2021), after eight worked examples of our own.

A reply counts if it ends as the examples do, "The answer is N.", with the right N. The last such
sentence counts; a reply without one is wrong, and counted as unreadable too.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import Final

from flywheel.evaluation.benchmarks.task import Question, drawn, rows_of
from flywheel.evaluation.runs.result import Published

_FILE: Final = "gsm8k.jsonl"
_ANSWER: Final = re.compile(r"answer is:?\s*\$?\s*(-?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)
_SOURCE: Final = "Llama 2 (arXiv 2307.09288), 8 shots"
SHOTS: Final = (
    (
        "A baker fills 4 trays with 12 rolls each and sells 30 rolls. How many rolls are left?",
        "4 trays of 12 rolls are 4 * 12 = 48 rolls. After 30 are sold, 48 - 30 = 18 are left. "
        "The answer is 18.",
    ),
    (
        "Mira reads 15 pages on every school day and 40 pages on each day of the weekend. How "
        "many pages does she read in a week?",
        "Five school days give 5 * 15 = 75 pages. The weekend gives 2 * 40 = 80 pages. Together "
        "that is 75 + 80 = 155. The answer is 155.",
    ),
    (
        "A ticket costs $9. Children pay a third of that. What do two adults and three children "
        "pay together?",
        "Two adults pay 2 * 9 = 18 dollars. A child pays 9 / 3 = 3 dollars, so three children pay "
        "3 * 3 = 9 dollars. Together they pay 18 + 9 = 27 dollars. The answer is 27.",
    ),
    (
        "Ben had 56 stamps. He gave a quarter of them to his sister and then bought 10 more. How "
        "many has he now?",
        "A quarter of 56 is 56 / 4 = 14. After giving them away he had 56 - 14 = 42. With 10 more "
        "he has 42 + 10 = 52. The answer is 52.",
    ),
    (
        "A train goes 80 kilometres an hour for 2 hours and then 60 kilometres an hour for 3 "
        "hours. How far does it go?",
        "In the first 2 hours it goes 2 * 80 = 160 kilometres. In the next 3 hours it goes "
        "3 * 60 = 180 kilometres. In all it goes 160 + 180 = 340 kilometres. The answer is 340.",
    ),
    (
        "Sara is 6 years older than Tom. In 4 years Tom will be 15. How old is Sara now?",
        "Tom is 15 - 4 = 11 now. Sara is 11 + 6 = 17. The answer is 17.",
    ),
    (
        "A garden is 8 metres long and half as wide. What does a fence around it cost at $5 a "
        "metre?",
        "It is 8 / 2 = 4 metres wide. Once around is 2 * (8 + 4) = 24 metres. The fence costs "
        "24 * 5 = 120 dollars. The answer is 120.",
    ),
    (
        "Of 200 visitors 35 percent came by bus, and 50 by bicycle. The others walked. How many "
        "walked?",
        "By bus came 200 * 35 / 100 = 70. So 200 - 70 - 50 = 80 walked. The answer is 80.",
    ),
)


class Gsm8k:
    """Reads gsm8k.jsonl: question, and an answer that ends in `#### N`."""

    name: Final = "gsm8k"
    scored: Final = False
    published: Final = tuple(
        Published(what="gsm8k", model=model, value=value, source=_SOURCE)
        for model, value in {
            "Llama 2 7B chat": 0.257,
            "Llama 2 13B chat": 0.412,
            "Llama 2 70B chat": 0.575,
        }.items()
    )

    def questions(self, data: Path | None, limit: int | None, seed: int) -> list[Question]:
        rows = rows_of(data, _FILE, ("question", "answer"))
        shots = [
            {"role": role, "content": text}
            for shot in SHOTS
            for role, text in zip(("user", "assistant"), shot, strict=True)
        ]
        return [
            Question(
                f"gsm8k-{at}",
                self.name,
                "sums in words",
                (*shots, {"role": "user", "content": rows[at]["question"]}),
                _number(rows[at]["answer"].rpartition("####")[2]),
            )
            for at in drawn(len(rows), limit, seed)
        ]

    def marks(self, question: Question, reply: str, safety: float | None) -> dict[str, float]:
        found = _ANSWER.findall(reply)
        return {"gsm8k": float(bool(found) and _number(found[-1]) == question.key)}

    def unreadable(self, reply: str) -> bool:
        return _ANSWER.search(reply) is None


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").strip())
