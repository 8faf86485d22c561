"""A judge of replies made of a chat model's own middle: a linear probe on one layer.

What a Llama knows of harm stands in its middle layers, where a linear model can read it. The
probe learns from a split that trained no reward model, so that it owes them nothing.
"""

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from flywheel.training.chat import base, files, stage, tokens
from flywheel.training.chat.files import Messages

Floats = npt.NDArray[np.float64]


class ProbeSettings(stage.Settings):
    model: Path = Field(description="folder of the chat model whose layer is read")
    labels: Path = Field(description="labelled replies: messages, response, unsafe, split")
    layer: int = Field(18, ge=1, description="whose output is read; of SmolLM2's 30 the best")
    each: int = Field(400, ge=10, description="labelled replies of each source and label, at most")
    length: int = Field(384, ge=32, description="tokens that are read, the newest")
    seed: int = 7


class Probe:
    """Logistic regression on the mean and the last state of a layer, over prompt and reply.

    figures: on how many replies it learnt, and its area under the curve on the `test` split.
    Raises StageError where the labels cannot teach it.
    """

    def __init__(self, settings: ProbeSettings) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._settings = settings
        self._tokenizer = base.load_tokenizer(settings.model)
        self._body = base.load_chat_model(settings.model, self._tokenizer).model
        # One layer more than is read: the last state that a body gives out is normalised.
        self._body.layers = self._body.layers[: settings.layer + 1]
        train, test = (self._labelled(split) for split in ("dev", "test"))
        self._regression = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.003, max_iter=2000, class_weight="balanced")
        )
        self._regression.fit(self._read(map(_reply, train)), [row["unsafe"] for row in train])
        area = roc_auc_score([row["unsafe"] for row in test], self.unsafe(map(_reply, test)))
        self.figures = {"learnt": len(train), "tested": len(test), "auc": round(float(area), 4)}

    def unsafe(self, replies: Iterable[tuple[Messages, str]]) -> Floats:
        """The probability that each reply to its conversation violates; shape (n,)."""
        found: Floats = self._regression.predict_proba(self._read(replies))[:, 1]
        return found

    def _labelled(self, split: str) -> list[files.Row]:
        rows = [r for r in files.read_rows(self._settings.labels) if r["split"] == split]
        random.Random(self._settings.seed).shuffle(rows)
        groups: dict[tuple[str, int], list[files.Row]] = {}
        for row in rows:
            groups.setdefault((row["source"], row["unsafe"]), []).append(row)
        if len({unsafe for _, unsafe in groups}) < 2:
            raise stage.StageError(
                f"{self._settings.labels} needs safe and unsafe replies of the split {split}"
            )
        return [row for group in groups.values() for row in group[: self._settings.each]]

    def _read(self, replies: Iterable[tuple[Messages, str]]) -> Floats:
        """Shape (n, twice the width)."""
        import torch
        from rich.progress import track

        found = []
        with torch.inference_mode():
            for messages, reply in track(list(replies), "reading", update_period=5):
                said = [*messages, {"role": "assistant", "content": reply}]
                text = tokens.render(self._tokenizer, said)
                ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
                newest = torch.tensor([ids[-self._settings.length :]])
                layers = self._body(newest, output_hidden_states=True).hidden_states
                states = layers[self._settings.layer][0].float()
                found.append(torch.cat([states.mean(0), states[-1]]).numpy())
        return np.array(found, dtype=np.float64)


def _reply(row: files.Row) -> tuple[Messages, str]:
    return row["messages"], row["response"]
