"""Reward models that run inside the process, on ONNX Runtime.

A model folder is made by `python -m flywheel.training.export` and holds model.onnx,
tokenizer.json and model.json. Every window is run by itself: padding and the scale of
quantised activations then cannot carry anything from one sample to another.
"""

import json
import math
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from guard.reward.calibration import Calibration
from guard.text import Window, Windower
from guard.types import Axis, GuardBroken, Sample, Score, Stage, finished

FILES = ("model.onnx", "tokenizer.json", "model.json")
# Where the network puts the logit of each stage.
COLUMNS = {Stage.PROMPT: 0, Stage.RESPONSE: 1}


class EmbeddedRewardModel:
    """Scores samples on one axis with an ONNX encoder. Safe to call from several threads."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """folder: an exported model; threads: cores that one call may use.

        Raises FileNotFoundError when a file is missing, and ValueError when model.json
        does not describe a model.
        """
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no exported model: {', '.join(missing)}")
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        try:
            self._axis = Axis(card["axis"])
            self._model_id = f"{card['name']}@{card['version']}"
            self._calibration = _calibration(card["calibration"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / 'model.json'} lacks a field: {error}") from error
        self._windower = Windower(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self._session = _session(folder / "model.onnx", threads)

    @property
    def axis(self) -> Axis:
        return self._axis

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def stages(self) -> frozenset[Stage]:
        """What the model may be asked about."""
        return frozenset(self._calibration)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score a sample, in order: that of its worst window.

        Raises ValueError for a sample of a stage that the model does not judge, and
        GuardBroken when the network answers with what is not a number.
        """
        return [finished(self.steps(sample)) for sample in samples]

    def steps(self, sample: Sample) -> Generator[None, None, Score]:
        """The same for one sample, with a pause between windows."""
        line = self._calibration.get(sample.stage)
        if line is None:
            raise ValueError(f"{self._model_id} does not judge the stage {sample.stage}")
        column = COLUMNS[sample.stage]
        reward = math.inf
        for number, window in enumerate(self._windower.windows(sample)):
            if number:
                yield
            logit = float(self._logits(window)[column])
            if not math.isfinite(logit):
                raise GuardBroken(f"{self._model_id} answered {logit}")
            reward = min(reward, logit)
        return Score(self._axis, float(line.probability(reward)), reward, self._model_id)

    def _logits(self, window: Window) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """One logit a stage, for one window."""
        logits: np.ndarray[tuple[int], np.dtype[np.float32]]
        logits = self._session.run(None, inputs(window))[0][0]
        return logits


def inputs(window: Window) -> dict[str, NDArray[Any]]:
    """What the graph is fed: of one window, its reply is judged or else all of it."""
    segments = np.array([window.segments], dtype=np.int32)
    judged = segments.astype(np.float32) if segments.any() else np.ones(segments.shape, "f4")
    return {
        "ids": np.array([window.ids], dtype=np.int32),
        "segments": segments,
        "judged": judged / judged.sum(),
    }


def _calibration(stages: Mapping[str, Mapping[str, Any]]) -> dict[Stage, Calibration]:
    return {
        Stage(stage): Calibration(float(line["slope"]), float(line["intercept"]))
        for stage, line in stages.items()
    }


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The graph comes fused; the higher levels would fuse norms into a slower kernel.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # The cores are shared with the chat engine: waiting threads must sleep.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
