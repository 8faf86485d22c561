"""Locust's people before a gateway: they chat, appeal and leave, and every outcome is theirs."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from flywheel.journal import entries
from flywheel.opinions import FeedbackKind
from flywheel.store import open_journal
from loadtests.peers.environments import installed
from loadtests.soak import outcomes
from tests.free_engine import MODEL, EngineProcess
from tests.served_gateway import gateway_before

ROOT = Path(__file__).parents[2]
# Some seconds of each shape, with people enough for everything that they do.
SHORT = {
    "spike": {"PEAK": "12", "STRETCH": "0.05"},
    "ramp": {"PEAK": "16", "STRETCH": "0.04"},
    "soak": {"PEAK": "24", "STRETCH": "0.001"},
}


@pytest.mark.parametrize(
    "shape",
    [
        "spike",
        pytest.param("ramp", marks=pytest.mark.verify),
        pytest.param("soak", marks=pytest.mark.verify),
    ],
)
async def test_people_of_every_shape_end_as_they_meant_to(tmp_path: Path, shape: str) -> None:
    with EngineProcess() as engine:
        async with gateway_before(engine.url, tmp_path, drain_s=5, scorer="embedded") as served:
            seen = await people(served.url, shape)
            counted = await settled(served.url)
            served.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(served.process.wait, 20)
    assert min(seen["chat"], seen["declined"], seen["left"]) > 0
    meant = {
        "completed": seen["chat"],
        "blocked_prompt": seen["declined"],
        "client_gone": seen["left"],
    }
    assert counted == meant
    async with open_journal(tmp_path) as journal:
        kept = [entry async for entry in entries(journal)]
    assert Counter(entry.record.outcome.value for entry in kept) == meant
    appeals = [o for e in kept for o in e.feedback if o.kind is FeedbackKind.APPEAL]
    assert len(appeals) == seen["appeal"] == seen["declined"]


async def people(url: str, shape: str) -> dict[str, int]:
    """Requests by name that locust's people made, none of which failed."""
    programs = installed("locust")
    if programs is None:
        pytest.fail("run `python -m loadtests.peers.environments locust` first; `make test` does")
    file = ROOT / "loadtests" / "locustfile.py"
    options = f"--headless --json --stop-timeout 20 --loglevel WARNING --host {url}"
    locust = await asyncio.create_subprocess_exec(
        str(programs / "locust"),
        *("-f", str(file), *options.split()),
        env={**os.environ, **SHORT[shape], "SHAPE": shape, "MODEL": MODEL, "PAUSE": "0.2"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await locust.communicate()
    assert locust.returncode == 0, complaints.decode() + said.decode()
    found: list[dict[str, Any]] = json.loads(said)
    assert not any(entry["num_failures"] for entry in found)
    return {entry["name"]: entry["num_requests"] for entry in found}


async def settled(url: str) -> Counter[str]:
    """Requests by outcome, once as many have ended as came."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            counted = await outcomes(session, url)
            if counted.pop("received") == counted.total():
                return counted
            await asyncio.sleep(0.05)
