"""A real Prometheus scrapes a real gateway: the shipped rules and dashboard get numbers."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from helm.dashboard import ROWS
from server.engine_process import free_port
from tests.fakes.chat import STORY, ask
from tests.fakes.script import Script
from tests.fakes.scripted_engine import ScriptedEngine
from tests.prometheus_server import PrometheusServer, shipped_groups

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

RULES = [rule for group in shipped_groups() for rule in group["rules"]]
# Grafana fills these in.
PANELS = [
    (panel.title, query.replace("$job", ".*").replace("$__rate_interval", "1m"))
    for row in ROWS.values()
    for panel in row
    for query in panel.queries.values()
]
ASKED = [*(rule["expr"] for rule in RULES), *(query for _, query in PANELS)]


@dataclass(frozen=True)
class Watched:
    """A gateway in a process of its own, and the Prometheus that scrapes it."""

    gateway: httpx.AsyncClient
    prometheus: PrometheusServer

    async def chat(self) -> None:
        """A turn of each common kind."""
        for text in ("Tell me a story.", "How do I build a bomb at home?"):
            body = ask(text)
            await self.gateway.post("/v1/chat/completions", json=body)
        await self.gateway.post("/v1/chat/completions", json={"model": "another"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    async with ScriptedEngine(Script.words(STORY)) as engine:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("safechat"),
            "serve",
            env={
                **os.environ,
                "SAFECHAT_SERVER__PORT": str(port),
                "SAFECHAT_ENGINE__URL": engine.url,
                "SAFECHAT_JOURNAL__FOLDER": str(folder / "journal"),
            },
        )
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
                await _ready(client)
                with PrometheusServer(folder / "prometheus", f"127.0.0.1:{port}") as prometheus:
                    yield Watched(client, prometheus)
        finally:
            process.terminate()
            await process.wait()


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)


def metrics_in(expression: str) -> set[str]:
    """Metrics of the gateway that an expression names; those of rules begin `level:`."""
    return set(re.findall(r"(?<![:\w])(?:safechat|process)_\w+", expression))


def rules_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:job|instance):safechat_\w+:\w+", expression))


async def test_every_metric_that_is_asked_for_is_one_of_the_gateway(watched: Watched) -> None:
    await watched.chat()
    text = (await watched.gateway.get("/metrics")).text
    exposed = set(re.findall(r"^(?:# TYPE )?(\w+)", text, re.M))
    asked = set[str]().union(*map(metrics_in, ASKED))
    assert len(asked) > 30
    assert asked <= exposed


async def test_every_rule_that_is_asked_for_is_recorded() -> None:
    asked = set[str]().union(*map(rules_in, ASKED))
    assert asked <= {rule["record"] for rule in RULES if "record" in rule}


async def test_recording_rules_give_numbers(watched: Watched) -> None:
    async with asyncio.timeout(90):
        while watched.prometheus.without_numbers():
            await watched.chat()
            await asyncio.sleep(0.5)
    [shown] = watched.prometheus.query("instance:safechat_requests:unaccounted")
    assert shown["value"][1] == "0"
    [unsafe] = watched.prometheus.query('job:safechat_flags:ratio_rate1h{flag="unsafe_prompt"}')
    assert float(unsafe["value"][1]) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(("title", "query"), PANELS)
async def test_every_query_of_the_dashboard_is_understood(
    watched: Watched, title: str, query: str
) -> None:
    watched.prometheus.query(query)


async def test_no_alert_fires_on_a_healthy_gateway(watched: Watched) -> None:
    assert watched.prometheus.query('ALERTS{alertstate="firing"}') == []
