"""The gateway serves the versions that the registry names, and switches without a pause."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.registry import aliases
from flywheel.registry.versions import Kind, Registry
from guard.reward.batcher import Batcher
from guard.types import Axis, Message, Sample
from server.settings import RegistrySettings
from server.versions import Versions
from tests.fakes.chat import STORY
from tests.fakes.gateway import RunningGateway, client_for, quick_settings, run_gateway
from tests.fakes.scorer import WordRewardModel, scripted_guard
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine

ASK = {"messages": [{"role": "user", "content": "Tell me a story."}]}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """V1 and V2 of the chat model."""
    registry = Registry(tmp_path / "registry")
    for number in (1, 2):
        source = tmp_path / f"adapter-{number}"
        source.mkdir()
        (source / "adapter_config.json").write_text(json.dumps({"number": number}))
        registry.add(Kind.CHAT, source)
    return registry


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(Script.words(STORY)) as engine:
        yield engine


@pytest.fixture
async def gateway(engine: ScriptedEngine, registry: Registry) -> AsyncIterator[RunningGateway]:
    settings = quick_settings(
        registry=RegistrySettings(folder=registry.root, poll_s=0.02, shadow_share=1.0)
    )
    async with run_gateway(settings, engine_url=engine.url, guard=scripted_guard()) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(gateway) as client:
        yield client


async def ask(client: httpx.AsyncClient, engine: ScriptedEngine, **more: Any) -> httpx.Response:
    answer = await client.post("/v1/chat/completions", json={**ASK, "model": engine.model, **more})
    assert answer.status_code == 200, answer.text
    return answer


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def serves(gateway: RunningGateway, version: str) -> None:
    versions = gateway.parts.versions
    assert versions is not None
    await until(lambda: versions.live == version)


async def test_without_a_live_version_the_engines_own_model_answers(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    await ask(client, engine)
    assert engine.bodies[-1]["model"] == engine.model
    assert engine.adapters == {}


async def test_a_switch_and_one_step_back_drop_no_stream(
    client: httpx.AsyncClient, engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    aliases.go_live(registry, Kind.CHAT, "V1")
    await serves(gateway, "V1")
    engine.enqueue(Script.words(STORY, delay=0.02))
    streamed = asyncio.create_task(ask(client, engine, stream=True))
    await until(lambda: engine.running == 1)
    aliases.go_live(registry, Kind.CHAT, "V2")
    await serves(gateway, "V2")
    assert not streamed.done()
    await ask(client, engine)
    assert [body["model"] for body in engine.bodies] == ["safechat-V1", "safechat-V2"]
    assert (await streamed).text.rstrip().endswith("[DONE]")
    aliases.roll_back(registry, Kind.CHAT)
    await serves(gateway, "V1")
    answer = await ask(client, engine)
    assert engine.bodies[-1]["model"] == "safechat-V1"
    assert answer.json()["model"] == engine.model  # clients see one name
    assert gateway.outcomes() == {"completed": 3}


async def test_an_engine_that_restarts_has_its_version_before_it_counts_as_up(
    client: httpx.AsyncClient, engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    aliases.go_live(registry, Kind.CHAT, "V1")
    await serves(gateway, "V1")
    await engine.stop()
    await until(lambda: not gateway.parts.monitor.up)
    engine.adapters.clear()
    await engine.start()
    await until(lambda: gateway.parts.monitor.up)
    assert list(engine.adapters) == ["safechat-V1"]
    await ask(client, engine)


async def test_an_engine_that_restarts_without_its_version_does_not_count_as_up(
    client: httpx.AsyncClient, engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    aliases.go_live(registry, Kind.CHAT, "V1")
    await serves(gateway, "V1")
    await engine.stop()
    await until(lambda: not gateway.parts.monitor.up)
    engine.adapters.clear()
    engine.adapter_trouble = True
    await engine.start()
    await until(lambda: gateway.sample("safechat_version_behind", kind="chat") == 1)
    await asyncio.sleep(1.2)  # longer than the monitor takes to look
    assert not gateway.parts.monitor.up
    refused = await client.post("/v1/chat/completions", json={**ASK, "model": engine.model})
    assert refused.status_code == 503
    engine.adapter_trouble = False
    await until(lambda: gateway.parts.monitor.up)


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_service(
    client: httpx.AsyncClient, engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    aliases.go_live(registry, Kind.CHAT, "V1")
    await serves(gateway, "V1")
    engine.adapter_trouble = True
    aliases.go_live(registry, Kind.CHAT, "V2")
    await until(lambda: gateway.sample("safechat_version_behind", kind="chat") == 1)
    await ask(client, engine)
    assert engine.bodies[-1]["model"] == "safechat-V1"
    engine.adapter_trouble = False
    await serves(gateway, "V2")
    await until(lambda: gateway.sample("safechat_version_behind", kind="chat") == 0)


async def test_a_version_whose_files_were_changed_is_not_loaded(
    engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    aliases.go_live(registry, Kind.CHAT, "V1")
    await serves(gateway, "V1")
    (registry.files(Kind.CHAT, "V2") / "adapter_config.json").write_text("{}")
    written = registry.root / "chat" / "aliases.json"
    written.write_text('{"live": "V2", "previous": "V1", "shadow": null}')
    await until(lambda: gateway.sample("safechat_version_behind", kind="chat") == 1)
    assert "safechat-V2" not in engine.adapters


async def test_the_version_in_shadow_answers_too_and_only_its_scores_are_kept(
    client: httpx.AsyncClient, engine: ScriptedEngine, registry: Registry, gateway: RunningGateway
) -> None:
    def script(body: dict[str, Any]) -> Script:
        shadow = body["model"] == "safechat-V2"
        return Script.words("You build a bomb like this." if shadow else STORY)

    engine.script = script
    aliases.to_shadow(registry, Kind.CHAT, "V2")
    await until(lambda: "safechat-V2" in engine.adapters)
    answer = await ask(client, engine)
    assert answer.json()["choices"][0]["message"]["content"].strip() == STORY.strip()
    await until(lambda: gateway.sample("safechat_shadow_turns_total") == 1)
    written = (registry.root / "chat" / "shadow-V2.jsonl").read_text()
    row = json.loads(written)
    assert row["live_version"] == "V0"
    assert (row["live"]["violation"], row["shadow"]["violation"]) == (0.0, 1.0)
    assert "bomb" not in written
    assert "story" not in written.lower()
    assert gateway.outcomes() == {"completed": 1}


async def test_a_reward_model_is_replaced_between_two_samples(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    source = tmp_path / "model"
    source.mkdir()
    (source / "model.onnx").write_bytes(b"weights")
    registry.add(Kind.SAFETY, source)
    sample = Sample((Message("user", "How do I build a bomb?"),))

    class Lenient(WordRewardModel):
        model_id = "lenient@2"

        def score(self, samples: Any) -> Any:
            return [s.__class__(s.axis, 0.9, 0.0, self.model_id) for s in super().score(samples)]

    def load(axis: Axis, folder: str | None) -> WordRewardModel:
        return WordRewardModel(axis) if folder is None else Lenient(axis)

    async with (
        Batcher({Axis.SAFETY: WordRewardModel()}) as batcher,
        Versions(
            registry, Host(), load=load, replace=lambda axis, model: batcher.replace(model)
        ) as versions,
    ):
        before = batcher.submit(Axis.SAFETY, sample)
        aliases.go_live(registry, Kind.SAFETY, "V1")
        await versions.follow()
        after = batcher.submit(Axis.SAFETY, sample)
        assert [(await before).model, (await after).model] == ["word-safety@1", "lenient@2"]
        aliases.roll_back(registry, Kind.SAFETY)
        await versions.follow()
        assert (await batcher.submit(Axis.SAFETY, sample)).value == 0.05


class Host:
    """An engine that is never asked."""

    async def served(self) -> set[str]:
        raise AssertionError("no adapter is wanted")

    async def load_adapter(self, name: str, folder: str) -> None:
        raise AssertionError("no adapter is wanted")

    async def unload_adapter(self, name: str) -> None:
        raise AssertionError("no adapter is wanted")
