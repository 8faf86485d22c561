"""The images and the compose file, as far as that can be seen without Docker."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from server.engine_command import LLAMA2_TEMPLATE, Build
from server.engine_main import command_line, parse
from server.settings import Settings, load_settings

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "images"
FILES: Final = sorted(IMAGES.glob("*.Dockerfile"))
every_image = pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
ENTRY: Final = {"id": "me", "sha256": "0" * 64, "scopes": ["chat"]}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((IMAGES / "compose.yaml").read_text())
    return loaded


def steps(file: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments, lines joined."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M).replace("\\\n", " ")
    split = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in split]


def test_there_is_one_for_each_part() -> None:
    assert {f.stem for f in FILES} == {"engine", "gateway", "router", "training", "ui"}


def test_hadolint_finds_nothing() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([tool, *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@every_image
def test_an_image_is_pinned_unprivileged_and_says_how_it_is(file: Path) -> None:
    known = dict(re.findall(r"ARG (\w+)=(\S+)", file.read_text()))
    bases = [rest for word, rest in steps(file) if word == "FROM"]
    for base in bases:
        name = re.sub(r"\$\{(\w+)\}", lambda m: known[m[1]], base.split(" AS ")[0])
        assert re.search(r":v?\d+\.\d+\.\d+", name), name
    last = dict(steps(file))
    assert last["USER"] == "10001:10001"
    assert "HEALTHCHECK" in last
    assert last["ENTRYPOINT"].startswith("[")


@every_image
def test_whatever_is_copied_from_the_project_exists_and_reaches_the_build(file: Path) -> None:
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in steps(file):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source == "." or f"!{source.split('/')[0]}" in kept, source


def test_reward_models_are_built_as_make_up_builds_them() -> None:
    for name in ("gateway", "training"):
        text = (IMAGES / f"{name}.Dockerfile").read_text()
        assert "RUN make guard" in text
        assert "COPY --from=models /src/.cache/guard /opt/guard" in text
        assert "SAFECHAT_GUARD__MODELS=/opt/guard" in text


def test_the_engines_image_brings_all_that_its_entry_point_needs(tmp_path: Path) -> None:
    for word, rest in steps(IMAGES / "engine.Dockerfile"):
        if word == "COPY":
            *sources, target = rest.split()
            inside = tmp_path / target.lstrip("/")
            for source in sources:
                place = inside / Path(source).name if target.endswith("/") else inside
                place.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-r", ROOT / source, place], check=True)
    script = "import server.engine_command as c; print(c.LLAMA2_TEMPLATE.read_text())"
    words = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {script}"]
    folder = tmp_path / "opt/safechat"
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.rstrip("\n") == LLAMA2_TEMPLATE.read_text().rstrip("\n")
    helped = [sys.executable, "-S", "-m", "server.engine_main", "--help"]
    subprocess.run(helped, check=True, capture_output=True, cwd=folder, env={})


def test_compose_starts_what_the_files_build_and_locks_it() -> None:
    services = compose()["services"]
    assert set(services) == {"engine", "redis", "gateway", "ui"}
    for name, service in services.items():
        if "build" in service:
            assert service["build"] == {"context": "..", "dockerfile": f"images/{name}.Dockerfile"}
        else:
            assert re.search(r":\d+\.\d+\.\d+", service["image"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_gateway_and_page_have_a_port_and_only_for_this_machine() -> None:
    ports = {n: s["ports"] for n, s in compose()["services"].items() if "ports" in s}
    assert set(ports) == {"gateway", "ui"}
    assert all(port.startswith("127.0.0.1:") for [port] in ports.values())


def test_the_page_reaches_neither_engine_nor_redis() -> None:
    services = compose()["services"]
    for inner in ("engine", "redis"):
        assert not set(services["ui"]["networks"]) & set(services[inner]["networks"])
    assert {compose()["networks"][n].get("internal") for n in ("engine", "redis")} == {True}


def test_the_gateway_of_compose_loads_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = compose()["services"]["gateway"]
    for name, value in gateway["environment"].items():
        monkeypatch.setenv(name, json.dumps([ENTRY]) if "SAFECHAT_KEYS" in name else value)
    settings: Settings = load_settings()
    assert str(settings.engine.url) == "http://engine:8000"
    assert settings.redis_url is not None
    assert settings.keys[0].id == "me"
    grace = int(gateway["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.server.drain_s + 30


def test_the_engine_of_compose_is_called_as_the_entry_point_takes_it() -> None:
    words = compose()["services"]["engine"]["command"]
    filled = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
    command, _ = command_line(parse(filled), Build.GPU)
    assert command[command.index("--model") + 1] == "meta-llama/Llama-2-7b-chat-hf"
    assert command[command.index("--max-model-len") + 1] == "4096"


def test_an_evaluation_keeps_its_report_by_date(tmp_path: Path) -> None:
    tool = tmp_path / "bin/safechat"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "{\\"asked\\": \\"$*\\"}"\n')
    tool.chmod(0o755)
    done = subprocess.run(
        [IMAGES / "evaluate.sh", "rows", tmp_path / "reports", "--streamed"],
        env={"PATH": f"{tool.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    report = Path(done.stdout.strip())
    asked = json.loads(report.read_text())["asked"]
    assert asked == f"eval guard --data rows --json --plots {report.parent} --streamed"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}Z", report.parent.name)
