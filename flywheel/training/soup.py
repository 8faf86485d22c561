"""The mean of two adapters: python -m flywheel.training.soup --models OLD NEW --out DIR

A model that was trained on from another one knows new things and has forgotten some. Between
the two lies one that is better than both on most sources, at no cost in serving (Wortsman et
al., "Model soups", 2022). Both adapters must be of one body and one rank, NEW trained from OLD
(`reward.py --start`), so that a straight line between them makes sense. NEW's model.json is
taken over, but for the digest; calibrate the result before it serves (calibrate.py).
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file

from flywheel.training.chat.stage import StageError, run
from flywheel.training.network import write_adapter, write_card


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--models", type=Path, nargs=2, required=True, metavar=("OLD", "NEW"), help="model folders"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of NEW, between 0 and 1")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    old, new = options.models
    mixed(old, new, options.share, options.out)


def mixed(old: Path, new: Path, share: float, out: Path) -> None:
    """Writes the model that lies at `share` of the way. Raises StageError if there is no way."""
    if not 0.0 <= share <= 1.0:
        raise StageError(f"a share lies between 0 and 1: {share}")
    ends = [load_file(folder / "adapter.safetensors") for folder in (old, new)]
    shapes = [{name: weight.shape for name, weight in end.items()} for end in ends]
    if shapes[0] != shapes[1]:
        raise StageError(f"{old} and {new} are not of one body and one rank: nothing to mix")
    between = {
        name: weight.float().lerp(ends[1][name].float(), share) for name, weight in ends[0].items()
    }
    out.mkdir(parents=True, exist_ok=True)
    write_adapter(out / "adapter.safetensors", between)
    write_card(out, json.loads((new / "model.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    run(main)
