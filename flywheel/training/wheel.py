"""One turn of the wheel: collect, train, evaluate, compare; then a new version is registered.

    safechat flywheel run --config wheel/small
    python -m flywheel.training.wheel --config FILE [--out DIR ...]

A turn is a list of steps, each a command of its own, run one after another. A step that has
ended is not run again, and each stage goes on where it was, so a turn that was killed goes on
too. After the steps: the adapter is loaded on the engine (vLLM with `--enable-lora` and
VLLM_ALLOW_RUNTIME_LORA_UPDATING=True), parent and candidate are measured on the same prompts,
the candidate is registered with its data, settings and measured values, and the gate says what
it would say to a promotion. Nothing goes live by itself: `safechat flywheel shadow` is next.
"""

import asyncio
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import Field

from flywheel.registry import aliases
from flywheel.registry.gate import Finding, Margins
from flywheel.registry.promotion import compare
from flywheel.registry.versions import BASE, Kind, Registry, RegistryError
from flywheel.training.chat import evaluate, files, stage


class Step(stage.Settings):
    """A stage of flywheel.training.chat, or another module, and its flags.

    In values, {out} is the turn's folder, {model} and {url} what the turn names, {version} the
    live version, {served} its name on the engine, and {parent} the folder of its adapter.
    """

    name: str
    module: str
    flags: dict[str, str | int | float | bool | list[str]] = Field({})

    def command(self, names: dict[str, str]) -> list[str]:
        words = [sys.executable, "-m", self.module]
        for flag, value in self.flags.items():
            given = value if isinstance(value, list) else [str(value)]
            words += [f"--{flag}", *(word.format_map(names) for word in given)]
        return words


class WheelSettings(stage.Settings):
    model: Path = Field(description="folder of the engine's own model, V0")
    url: str = Field("http://127.0.0.1:8001", description="vLLM's base URL, with LoRA enabled")
    served: str = Field(description="its model's served name")
    registry: Path = Field(Path(".var/registry"), description="folder of versions")
    steps: tuple[Step, ...] = Field(description="in the config file: [[steps]]")
    adapter: str = Field("{out}/sft/adapter", description="what the last step leaves")
    evaluate: dict[str, Any] = Field({}, description="in the config file: flags of evaluate.py")
    note: str = ""
    out: Path


def main(argv: list[str] | None = None) -> None:
    settings = stage.read(WheelSettings, __doc__, argv)
    settings.out.mkdir(parents=True, exist_ok=True)
    registry = Registry(settings.registry)
    parent = aliases.read(registry, Kind.CHAT).live
    served = settings.served if parent == BASE else _parent(settings, parent)
    names = {
        "out": str(settings.out),
        "model": str(settings.model),
        "url": settings.url,
        "served": served,
        "version": parent,
        "parent": str(registry.files(Kind.CHAT, parent)),
    }
    for step in settings.steps:
        _run(step, names, settings.out)
    adapter = Path(settings.adapter.format_map(names))
    if not adapter.is_dir():
        raise stage.StageError(f"the steps left no adapter at {adapter}")

    before = _measure(settings, served)
    candidate = f"candidate-{fingerprint(adapter)}"
    asyncio.run(load(settings.url, candidate, adapter.resolve()))
    after = _measure(settings, candidate)
    name, findings = _register(settings, registry, parent, adapter, before, after)
    print(f"registered chat {name}, from {parent}")
    print(table(findings))
    files.write_json(
        settings.out / "turn.json",
        {"version": name, "parent": parent, "findings": [f.as_json() for f in findings]},
    )


def fingerprint(adapter: Path) -> str:
    """Of weights and settings: the same weights at another `lora_alpha` are another model."""
    parts = [adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    return sha256("".join(map(files.digest, parts)).encode()).hexdigest()[:12]


def _run(step: Step, names: dict[str, str], out: Path) -> None:
    """Run a step to its end, unless it has ended before. Raises StageError."""
    ended = out / "ended" / step.name
    command = step.command(names)
    asked = json.dumps(command[1:])
    if ended.is_file():
        if ended.read_text(encoding="utf-8") != asked:
            raise stage.StageError(f"{step.name} ended with other flags: name another --out")
        print(f"{step.name}: done before", flush=True)
        return
    print(f"{step.name}: {' '.join(command[1:])}", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        raise stage.StageError(f"{step.name} ended with status {status}; see above")
    ended.parent.mkdir(exist_ok=True)
    ended.write_text(asked, encoding="utf-8")


def _parent(settings: WheelSettings, version: str) -> str:
    """The live version's adapter, loaded under a name of its own."""
    name = f"parent-{version}"
    folder = Registry(settings.registry).files(Kind.CHAT, version).resolve()
    asyncio.run(load(settings.url, name, folder))
    return name


async def load(url: str, name: str, folder: Path) -> None:
    """Load an adapter on a vLLM, once. Raises StageError."""
    body = {"lora_name": name, "lora_path": str(folder)}
    try:
        async with aiohttp.ClientSession(trust_env=False) as session:
            async with session.get(f"{url}/v1/models") as found:
                served = {model["id"] for model in (await found.json())["data"]}
            if name in served:
                return
            async with session.post(f"{url}/v1/load_lora_adapter", json=body) as answer:
                if answer.status == 200:
                    return
                why = (await answer.text())[:300]
    except aiohttp.ClientError as error:
        why = repr(error)
    raise stage.StageError(
        f"the engine at {url} does not take the adapter ({why}): start it with --enable-lora "
        "--max-lora-rank and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it can read the folder"
    )


def _measure(settings: WheelSettings, served: str) -> list[files.Row]:
    out = settings.out / "evaluation" / served.replace("/", "_")
    flags = {"url": settings.url, "served": served, "out": str(out), **settings.evaluate}
    words: list[str] = []
    for flag, value in flags.items():
        words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    evaluate.main(words)
    return files.read_rows(out / "evaluation.jsonl")


def _register(
    settings: WheelSettings,
    registry: Registry,
    parent: str,
    adapter: Path,
    before: list[files.Row],
    after: list[files.Row],
) -> tuple[str, list[Finding]]:
    kept = settings.out / "turn.json"
    if kept.is_file():
        name = json.loads(kept.read_text(encoding="utf-8"))["version"]
    else:
        if parent == BASE and not registry.evaluation(Kind.CHAT, BASE):
            registry.measure_base(Kind.CHAT, before)
        asked = settings.out.rglob("run.json")
        data = {str(p.parent.relative_to(settings.out)): json.loads(p.read_text())["inputs"]
                for p in sorted(asked)}  # fmt: skip
        name = registry.add(
            Kind.CHAT,
            adapter,
            parent=parent,
            note=settings.note,
            settings=json.loads(settings.model_dump_json(exclude={"out"})),
            data=data,
            metrics={metric: cell["mean"] for metric, cell in evaluate.summary(after).items()},
            evaluation=after,
        ).name
    try:
        return name, compare(registry, Kind.CHAT, parent, name, Margins())
    except RegistryError as error:
        raise stage.StageError(str(error)) from error


def table(findings: list[Finding]) -> str:
    """What the gate found, a line for each metric."""
    return "\n".join(
        f"{f.metric:>14}  {f.before:.3f} → {f.after:.3f} on {f.items} prompts, worse by "
        f"{f.low:+.3f} … {f.high:+.3f}: {'passes' if f.passes else 'does not pass: ' + f.why}"
        for f in findings
    )


if __name__ == "__main__":
    stage.run(main)
