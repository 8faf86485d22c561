"""Calibrates a trained reward model on `dev`: python -m flywheel.training.calibrate --model DIR

What is calibrated and reported is the exported 8-bit graph, since that is what serves. Writes
the lines into the folder's model.json, and report.json beside it. `reward.py` ends with it.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from flywheel.training.data import Mixture
from flywheel.training.export import export
from flywheel.training.helpfulness_mix import helpfulness_mix
from flywheel.training.report import THRESHOLD, calibrated, report, show
from flywheel.training.safety_mix import safety_mix
from guard.reward.embedded import EmbeddedRewardModel
from guard.types import Axis, Sample

MIXES = {Axis.SAFETY: safety_mix, Axis.HELPFULNESS: helpfulness_mix}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder that reward.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--replies", type=Path, help="sampled replies, see replies.py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    axis = Axis(json.loads((options.model / "model.json").read_text(encoding="utf-8"))["axis"])
    dev = MIXES[axis](options.data, "dev", options.seed, options.replies)
    calibrate(options.model, dev, options.threads)


def calibrate(folder: Path, dev: Mixture, threads: int) -> None:
    """Exports the adapter in `folder`, scores `dev` and writes down what came of it."""
    with tempfile.TemporaryDirectory() as exported:
        export(folder, Path(exported))
        model = EmbeddedRewardModel(Path(exported), threads)
        logits = _rewards(model, [e.sample for e in dev.examples], "examples")
        chosen = _rewards(model, [p.chosen for p in dev.pairs], "chosen replies")
        rejected = _rewards(model, [p.rejected for p in dev.pairs], "rejected replies")
    lines = calibrated(dev.examples, logits)
    written = folder / "model.json"
    card = json.loads(written.read_text(encoding="utf-8"))
    card["calibration"] = {stage: asdict(line) for stage, line in lines.items()}
    card["thresholds"] = dict.fromkeys(lines, THRESHOLD)
    written.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    figures = report(dev, logits, chosen, rejected, lines)
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    Console(width=120).print(show(figures))


def _rewards(model: EmbeddedRewardModel, samples: list[Sample], what: str) -> list[float]:
    found = track(samples, f"scoring {what} of dev", update_period=5)
    return [model.score([sample])[0].reward for sample in found]


if __name__ == "__main__":
    main()
