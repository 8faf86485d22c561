"""What the chart says to the gateway, to vLLM and to `helm test` is what these understand."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from flywheel.store import open_journal
from server.auth import hash_key
from server.engine_command import Build
from server.engine_main import command_line, parse
from server.settings import ApiKey, Scope, Settings, load_settings
from tests.fakes.chat import STORY
from tests.fakes.gateway import quick_settings, run_gateway
from tests.fakes.scorer import scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.helm.chart import CHART, CI, component_of, every_case, one, pod, pods, render

KEYS = [{"id": "shop", "sha256": "0" * 64, "scopes": ["chat"]}]


def settings_of(case: Path | None, folder: Path, patch: pytest.MonkeyPatch) -> Settings:
    """As the gateway's container loads them, with what Secrets and Kubernetes put in."""
    objects = render(case)
    file = folder / "safechat.toml"
    file.write_text(one(objects, "ConfigMap", "gateway")["data"]["safechat.toml"])
    for entry in pod(objects, "gateway")["containers"][0]["env"]:
        name, value = entry["name"], entry.get("value")
        if name.startswith("SAFECHAT_"):
            patch.setenv(name, value or json.dumps(KEYS))
    if case and case.stem == "two-nodes-70b":
        patch.setenv("SAFECHAT_REDIS_URL", "rediss://u:p@redis.example.org:6379/0")
    patch.setenv("SAFECHAT_CONFIG", str(file))
    return load_settings()


@every_case
def test_the_gateway_loads_what_is_rendered(
    case: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(case, tmp_path, monkeypatch)
    assert settings.server.host == "0.0.0.0"
    assert settings.server.drain_s == 600
    assert settings.server.log_json
    assert settings.keys[0].id == "shop"
    mounts = {m["mountPath"] for m in pod(render(case), "gateway")["containers"][0]["volumeMounts"]}
    assert str(settings.journal.folder) in mounts
    assert (settings.redis_url is None) == (case is not None and case.stem == "one-gateway")


def test_behind_routers_the_gateway_asks_whether_one_engine_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = settings_of(None, tmp_path, monkeypatch).engine
    assert (alone.url, alone.health_path) == ("http://chat-safechat-engine:8000", "/health")
    routed = settings_of(CHART / "ci/cluster-13b.yaml", tmp_path, monkeypatch)
    assert routed.engine.url == "http://chat-safechat-router:8000"
    assert routed.engine.health_path == "/readiness"
    assert routed.guard.response.action == "steer"
    assert routed.limits.streams == 128


def test_judges_on_gpus_are_where_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CHART / "ci/two-nodes-70b.yaml"
    guard = settings_of(case, tmp_path, monkeypatch).guard
    assert guard.safety
    assert guard.helpfulness
    assert guard.safety.spec == "llama-guard-3-8b"
    services = {o["metadata"]["name"] for o in render(case) if o["kind"] == "Service"}
    assert {httpx.URL(j.url).host for j in (guard.safety, guard.helpfulness)} <= services


def test_a_settings_file_keeps_whole_numbers(tmp_path: Path) -> None:
    text = one(render(None, "gateway.settings.limits.body_bytes=4000000"), "ConfigMap", "gateway")
    settings = Settings(**tomllib.loads(text["data"]["safechat.toml"]), keys=KEYS)
    assert settings.limits.body_bytes == 4_000_000


def vllm_words() -> list[list[str]]:
    """vLLM's own options, for every engine and judge of every case."""
    found = []
    for case in CI:
        for template in pods(render(case)):
            if component_of(template).startswith(("engine", "reward")):
                options = parse(template["spec"]["containers"][0]["args"])
                words, _ = command_line(options, Build.GPU)
                found.append(words[5:] if "--headless" in words else words[3:])
    return [[w.replace("$(LWS_WORKER_INDEX)", "1") for w in words] for words in found]


@pytest.mark.verify  # importing vLLM takes half a minute
def test_vllm_understands_every_option(vllm_build: Build) -> None:
    words = vllm_words()
    assert len(words) >= 7
    script = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "parser = make_arg_parser(FlexibleArgumentParser())\n"
        "for words in json.load(sys.stdin):\n"
        "    parser.parse_args(words)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(words),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_chat_page_knows_its_options() -> None:
    words = [sys.executable, "-m", "ui", "--help"]
    known = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for option in pod(render(), "ui")["containers"][0]["args"]:
        assert f"{option.split('=')[0]} " in known


def test_export_runs_as_the_cron_job_calls_it(tmp_path: Path) -> None:
    command = pod(render(CHART / "ci/two-nodes-70b.yaml"), "export")["containers"][0]["command"]
    out = tmp_path / "export"
    words = [word.replace("/data/exports/preference", str(out)) for word in command[1:]]
    environment = {**os.environ, "SAFECHAT_JOURNAL__FOLDER": str(tmp_path)}
    asyncio.run(_empty_journal(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", *command[:1], *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "manifest.json").exists()


async def _empty_journal(folder: Path) -> None:
    async with open_journal(folder):
        pass


@pytest.mark.parametrize("key", ["right", "wrong"])
async def test_the_test_hook_chats_once(key: str) -> None:
    pod_of_test = pod(render(), "test")["containers"][0]
    script = pod_of_test["args"][0]
    keys = (ApiKey(id="test", sha256=hash_key("right"), scopes=frozenset({Scope.CHAT})),)
    async with (
        ScriptedEngine(Script.words(STORY)) as engine,
        run_gateway(
            quick_settings(keys=keys), engine_url=engine.url, guard=scripted_guard()
        ) as gateway,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script),
            env={"URL": gateway.url, "KEY": key, "no_proxy": "*"},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    assert process.returncode == (0 if key == "right" else 1)
    assert (STORY.strip() if key == "right" else "authentication_error") in output.decode()
