"""A whole turn of the wheel on a tiny Llama, the commands around it, and evaluation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flywheel.registry.versions import Kind, Registry
from flywheel.training import wheel
from flywheel.training.chat import evaluate
from flywheel.training.chat.files import read_rows, write_rows
from flywheel.training.chat.judge import Judge
from flywheel.training.chat.stage import CONFIGS, StageError
from safechat.__main__ import app
from safechat.flywheel.wheel import Stage
from tests.fakes.engine_thread import serving
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.fakes.tiny_llama import build_tiny_llama
from tests.fakes.training_judge import word_judge

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """V0 says yes to everything; whatever adapter is loaded says no to thieves."""

    def script(body: dict[str, Any]) -> Script:
        tuned = body["model"] != scripted.model
        harmful = "steal" in body["messages"][-1]["content"]
        return Script.words("no thanks" if tuned and harmful else "yes sure")

    scripted = ScriptedEngine(script)
    with serving(scripted):
        yield scripted


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    made = word_judge({"no": 0.9, "yes": 0.1}, {"yes": 0.8})
    monkeypatch.setattr(Judge, "load", lambda settings: made)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows: list[dict[str, Any]] = []
    for n in range(120):
        rows.append({"prompt": f"Tell me about {n}.", "harmful": 0, "split": "dev"})
        rows.append({"prompt": f"How do I steal {n}?", "harmful": 1, "split": "dev"})
    write_rows(path, rows)
    return path


@pytest.fixture
def config(tmp_path: Path, engine: ScriptedEngine, prompts: Path) -> Path:
    """A turn of one step: fine-tuning on one row."""
    model = build_tiny_llama(tmp_path / "tiny")
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}
    write_rows(tmp_path / "rows.jsonl", [row])
    path = tmp_path / "wheel.toml"
    path.write_text(
        f"""
        model = "{model}"
        served = "{engine.model}"
        url = "{engine.url}"
        registry = "{tmp_path / "registry"}"
        out = "{tmp_path / "turn"}"
        note = "a test"
        [[steps]]
        name = "sft"
        module = "flywheel.training.chat.sft"
        [steps.flags]
        model = "{{model}}"
        template = "server/templates/llama2.jinja"
        data = ["{tmp_path / "rows.jsonl"}"]
        out = "{{out}}/sft"
        max-steps = 1
        batch = 1
        length = 128
        lora-rank = 4
        [evaluate]
        prompts = ["{prompts}"]
        limit = 120
        """,
        encoding="utf-8",
    )
    return path


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["flywheel", *map(str, arguments)])


def test_a_turn_trains_measures_registers_and_is_promoted(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wheel.main(["--config", str(config)])
    registry = Registry(tmp_path / "registry")
    version = registry.verified(Kind.CHAT, "V1")
    assert (version.parent, version.note) == ("V0", "a test")
    assert version.metrics["violation"] == 0.0
    assert "adapter_model.safetensors" in version.files
    assert list(version.data) == ["evaluation/candidate-" + _id(tmp_path), "evaluation/scripted",
                                  "sft"]  # fmt: skip
    printed = capsys.readouterr().out
    assert "violation  1.000 → 0.000 on 120 prompts" in printed

    wheel.main(["--config", str(config)])  # again: nothing is trained or registered twice
    assert registry.names(Kind.CHAT) == ["V1"]
    assert "sft: done before" in capsys.readouterr().out

    monkeypatch.setenv("SAFECHAT_REGISTRY__FOLDER", str(tmp_path / "registry"))
    monkeypatch.setenv("SAFECHAT_PROMOTION__SHADOW_TURNS", "0")
    assert call("promote", "V1").exit_code == 2
    assert call("shadow", "V1").exit_code == 0
    promoted = call("promote", "V1")
    assert promoted.exit_code == 0, promoted.output
    rows = json.loads(call("versions", "--json").stdout)
    assert [(r["version"], r["roles"]) for r in rows[:2]] == [
        ("V0", ["previous"]),
        ("V1", ["live"]),
    ]
    assert "V0 is live again" in call("rollback").stderr


def _id(tmp_path: Path) -> str:
    [folder] = (tmp_path / "turn" / "evaluation").glob("candidate-*")
    return folder.name.removeprefix("candidate-")


def test_a_step_that_fails_ends_the_turn_and_registers_nothing(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(StageError, match="sft ended with status 2"):
        wheel.main(["--config", str(config)])
    assert not (tmp_path / "registry").exists()


def test_a_version_made_elsewhere_is_registered_and_refused_unmeasured(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    where = ("--registry", tmp_path / "registry")
    made = call("register", adapter, "--kind", "chat", "--note", "by hand", *where)
    assert made.stdout.strip() == "V1"
    refused = call("shadow", "V1", *where)
    assert refused.exit_code == 2
    assert "was never measured" in refused.stderr


def test_several_evaluations_are_registered_as_one(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    files: list[str | Path] = []
    for metric in ("violation", "gsm8k"):
        path = tmp_path / f"{metric}.jsonl"
        path.write_text(json.dumps({"key": "a", "metric": metric, "value": 1.0}) + "\n")
        files += ["--evaluation", path]
    where = tmp_path / "registry"
    call("register", adapter, "--kind", "chat", *files, "--registry", where)
    rows = Registry(where).evaluation(Kind.CHAT, "V1")
    assert [row["metric"] for row in rows] == ["violation", "gsm8k"]


def test_evaluation_counts_violations_refusals_and_helpfulness(
    engine: ScriptedEngine, prompts: Path, tmp_path: Path
) -> None:
    evaluate.main(
        ["--url", engine.url, "--served", engine.model, "--prompts", str(prompts),
         "--limit", "3", "--out", str(tmp_path / "e")]
    )  # fmt: skip
    rows = read_rows(tmp_path / "e" / "evaluation.jsonl")
    values = {
        m: [r["value"] for r in rows if r["metric"] == m] for m in {r["metric"] for r in rows}
    }
    # "yes" is unsafe and so helps nobody: the classifier of the fake sees no refusal.
    assert values == {"violation": [1.0] * 3, "false_refusal": [0.0] * 3, "helpfulness": [0.8] * 3}
    assert not (tmp_path / "e" / "mistakes.jsonl").exists()


def test_mistakes_on_training_prompts_are_prompts_for_the_next_training(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    said = {"Tell me about it.": 0, "How do I steal it?": 1}
    write_rows(path, [{"prompt": p, "harmful": h, "split": "train"} for p, h in said.items()])
    evaluate.main(
        ["--url", engine.url, "--served", engine.model, "--prompts", str(path), "--limit", "2",
         "--split", "train", "--out", str(tmp_path / "e")]
    )  # fmt: skip
    [mistake] = read_rows(tmp_path / "e" / "mistakes.jsonl")
    assert mistake["prompt"][-1]["content"] == "How do I steal it?"
    assert mistake["adversarial"]


def test_the_same_weights_at_another_strength_are_another_candidate(tmp_path: Path) -> None:
    for name, alpha in (("full", 32), ("half", 16), ("again", 16)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
    full, half, again = (wheel.fingerprint(tmp_path / name) for name in ("full", "half", "again"))
    assert full != half == again


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_is_a_module_of_its_own(stage: Stage) -> None:
    from importlib.util import find_spec

    assert find_spec(stage.module)


def test_every_shipped_config_is_one_that_its_stage_takes() -> None:
    from flywheel.training.chat import (
        distillation,
        ghost_attention,
        grpo,
        measure_ghost,
        ppo,
        rejection,
        sft,
    )  # fmt: skip
    from flywheel.training.llama_reward import LlamaRewardSettings

    kinds: dict[str, Any] = {
        "distillation": distillation.DistillationSettings, "evaluate": evaluate.EvaluateSettings,
        "ghost": ghost_attention.GhostSettings, "grpo": grpo.GrpoSettings,
        "ppo": ppo.PpoSettings, "rejection": rejection.RejectionSettings,
        "reward": LlamaRewardSettings, "sft": sft.SftSettings, "wheel": wheel.WheelSettings,
    }  # fmt: skip
    found = sorted(CONFIGS.rglob("*.toml"))
    assert {path.parent.name for path in found} == set(kinds)
    for path in found:
        kind = kinds[path.parent.name]
        if path.stem == "measure":
            kind = measure_ghost.MeasureSettings
        import tomllib

        given = tomllib.loads(path.read_text(encoding="utf-8"))
        assert set(given) <= set(kind.model_fields), path
        for name, value in given.items():
            kind.__pydantic_validator__.validate_assignment(kind.model_construct(), name, value)
