"""A soup of two adapters lies on the straight line between them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flywheel.training.chat.stage import StageError
from flywheel.training.soup import mixed


def model(folder: Path, value: float, version: str, width: int = 3) -> Path:
    folder.mkdir()
    save_file({"a": torch.full((2, width), value).half()}, folder / "adapter.safetensors")
    card = {"name": "made", "version": version, "sha256": "another"}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_weights_lie_at_the_share_and_the_card_is_the_new_ones(
    tmp_path: Path, share: float, expected: float
) -> None:
    old, new = model(tmp_path / "old", 1.0, "5"), model(tmp_path / "new", 5.0, "6")
    mixed(old, new, share, tmp_path / "out")
    found = load_file(tmp_path / "out" / "adapter.safetensors")["a"]
    assert torch.equal(found, torch.full((2, 3), expected).half())
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["version"] == "6"
    assert card["sha256"] != "another"


def test_what_has_no_line_between_it_is_refused(tmp_path: Path) -> None:
    old, new = model(tmp_path / "old", 1.0, "5"), model(tmp_path / "new", 5.0, "6", width=4)
    with pytest.raises(StageError, match="one body and one rank"):
        mixed(old, new, 0.5, tmp_path / "out")
    with pytest.raises(StageError, match="between 0 and 1"):
        mixed(old, old, 1.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
