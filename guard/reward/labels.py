"""The small classifier beside the reward models: kind of harm, and kind of answer.

One encoder with two heads, both softmax: which hazard a harmful text is about, and how a
reply meets its request. Each sample is one short window: of a long question or reply the
beginning and the end are read, since that is where a reply refuses, and of a reply the
sentences between that have the words of a refusal. A model folder is made by
`python -m flywheel.training.export` and holds model.onnx, tokenizer.json and model.json.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from guard.hazards import Hazard
from guard.reward.cascade import Band
from guard.reward.embedded import FILES, _session, inputs
from guard.text import Window, Windower, newest_turn
from guard.types import GuardBroken, Labels, Message, RefusalKind, Sample

# Characters that are read of a text's beginning and of its end, and between at most.
QUESTION_HEAD, QUESTION_TAIL = 120, 120
REPLY_HEAD, REPLY_MIDDLE, REPLY_TAIL = 320, 180, 220
SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
TELLING = re.compile(
    r"\b(sorry|apologi[sz]e|cannot|can.t|unable|won.t|will not|not able|must decline|refuse"
    r"|illegal|unethical|condone|advise against|not comfortable|as an ai|guidelines)\b",
    re.IGNORECASE,
)
# Where the network puts its logits: first those of the answers, then those of the hazards.
KINDS = tuple(RefusalKind)
HAZARDS = tuple(Hazard)


class EmbeddedClassifier:
    """Names hazard and kind of answer with an ONNX encoder. Safe to call from several threads."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """folder: an exported model; threads: cores that one call may use.

        Raises FileNotFoundError when a file is missing, and ValueError when model.json
        describes no classifier or one with other labels. Afterwards `doubt` is the band in which
        a second classifier decides as well, None if there is none.
        """
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no exported model: {', '.join(missing)}")
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        try:
            self._model_id = f"{card['name']}@{card['version']}"
            self._temperatures = (
                float(card["refusal"]["temperature"]),
                float(card["hazard"]["temperature"]),
            )
            labels = tuple(card["refusal"]["labels"]), tuple(card["hazard"]["labels"])
            doubt = card["refusal"].get("doubt")
            self.doubt = None if doubt is None else Band(*map(float, doubt))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / 'model.json'} lacks a field: {error}") from error
        if labels != (KINDS, HAZARDS):
            raise ValueError(f"{folder / 'model.json'} has other labels than this version")
        self._windower = Windower(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self._session = _session(folder / "model.onnx", threads)

    @property
    def model_id(self) -> str:
        return self._model_id

    def label(self, samples: Sequence[Sample]) -> list[Labels]:
        """The labels of each sample, in order, untouched by the other samples of the call.

        Raises GuardBroken when the network answers with what is not a number.
        """
        return [self._label(sample) for sample in samples]

    def _label(self, sample: Sample) -> Labels:
        logits = self._logits(window(self._windower, sample))
        if not np.isfinite(logits).all():
            raise GuardBroken(f"{self._model_id} answered {logits.tolist()}")
        kinds = _softmax(logits[: len(KINDS)] / self._temperatures[0])
        hazards = _softmax(logits[len(KINDS) :] / self._temperatures[1])
        return Labels(
            hazards=dict(zip(HAZARDS, hazards, strict=True)),
            refusals={} if sample.reply is None else dict(zip(KINDS, kinds, strict=True)),
            model=self._model_id,
        )

    def _logits(self, window: Window) -> NDArray[np.float32]:
        """One logit a label, for one window."""
        logits: NDArray[np.float32] = self._session.run(None, inputs(window))[0][0]
        return logits


def window(windower: Windower, sample: Sample) -> Window:
    """The one window that the classifier reads of a sample: newest turn and reply, clipped."""
    newest = sample.conversation[newest_turn(sample.conversation) :]
    question = clipped("\n".join(m.text for m in newest), QUESTION_HEAD, QUESTION_TAIL)
    conversation = (Message("user", question),)
    if sample.reply is None:
        return windower.windows(Sample(conversation))[0]
    reply = telling(sample.reply)
    return windower.windows(replace(sample, conversation=conversation, reply=reply, whole=True))[0]


def telling(reply: str) -> str:
    """Both ends of a long reply, and what between them may be a refusal."""
    middle = reply[REPLY_HEAD:-REPLY_TAIL]
    if len(middle) <= REPLY_MIDDLE:
        return reply
    kept = " ".join(s.strip() for s in SENTENCE.findall(middle) if TELLING.search(s))
    parts = (reply[:REPLY_HEAD], kept[:REPLY_MIDDLE], reply[-REPLY_TAIL:])
    return " ... ".join(part for part in parts if part)


def clipped(text: str, head: int, tail: int) -> str:
    """The first `head` and the last `tail` characters of a longer text."""
    return text if len(text) <= head + tail else f"{text[:head]} ... {text[-tail:]}"


def _softmax(logits: NDArray[np.float32]) -> list[float]:
    raised = np.exp(logits - logits.max())
    probabilities: list[float] = (raised / raised.sum()).tolist()
    return probabilities
