r"""What a streamed chunk costs in our gateway, and in other servers that could stand there.

    python -m loadtests.peers.environments      # once
    python -m loadtests.peers.compare [--seconds 5] [--streams 8] [--json]

One engine that costs nothing, one client, one run. Each server has a core to itself; engine,
client and judge share the other. Where a peer guards, our gateway's `/v1/score` judges for it
by a constant, on the other core too, so what is counted is what asking costs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import aiohttp
import psutil
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.fronted import GATEWAY_COMMAND, START_WITHIN_S, gateway_environment
from loadtests.peers.environments import LISTS, installed
from loadtests.relay import Cost, measure
from loadtests.servers import free_port, progress, ready, started

CHUNKS = 64
PEERS_ENVIRONMENT = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "LITELLM_LOG": "ERROR",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class House:
    """What every server of the comparison may use. URLs without /v1; folder: for its files."""

    engine: str
    score: str
    judge: str
    folder: Path

    def filled(self, template: Path, name: str) -> Path:
        """A template of ours with the addresses of this run."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        words = {"ENGINE": self.engine, "JUDGE": self.judge}
        path.write_text(Template(template.read_text()).safe_substitute(words))
        return path


@dataclass(frozen=True, slots=True)
class Subject:
    """A server. command: gets its port and programs' folder; needs: an environment's name."""

    name: str
    ready: str
    command: Callable[[House, int, Path], str]
    needs: str | None = None


def _litellm(config: str) -> Callable[[House, int, Path], str]:
    def command(house: House, port: int, programs: Path) -> str:
        path = house.filled(LISTS / config, config)
        return f"{programs}/litellm --config {path} --port {port} --host 127.0.0.1"

    return command


def _nemo(house: House, port: int, programs: Path) -> str:
    for file in ("config.yml", "rails.co", "actions.py"):
        house.filled(LISTS / "nemo" / file, f"nemo/score/{file}")
    options = f"--config {house.folder}/nemo --default-config-id score --disable-chat-ui"
    return f"{programs}/nemoguardrails server {options} --port {port}"


def _router(house: House, port: int, programs: Path) -> str:
    options = f"--worker-urls {house.engine} --policy round_robin --prometheus-port {free_port()}"
    return f"{programs}/vllm-router {options} --host 127.0.0.1 --port {port}"


def _gateway(house: House, port: int, programs: Path) -> str:
    return GATEWAY_COMMAND


SUBJECTS = (
    Subject("safechat, guarded", "/readyz", _gateway),
    Subject("vllm-router", "/health", _router, "vllm-router"),
    Subject("LiteLLM", "/health/liveliness", _litellm("litellm.yml"), "litellm"),
    Subject("LiteLLM, guarded", "/health/liveliness", _litellm("litellm-guarded.yml"), "litellm"),
    Subject("NeMo Guardrails, guarded", "/v1/rails/configs", _nemo, "nemo"),
)


@contextmanager
def standing(stack: ExitStack, other: Sequence[int]) -> Iterator[tuple[House, psutil.Process]]:
    """Engine, scoring gateway and judge, all on the core of the client."""
    engine, score, judge = (free_port() for _ in range(3))
    url = "http://127.0.0.1:{}".format
    with TemporaryDirectory() as folder:
        house = House(url(engine), url(score), url(judge), Path(folder))
        python = f"{sys.executable} -m loadtests"
        process = stack.enter_context(
            started(f"{python}.free_engine --port {engine} --chunks {CHUNKS}", {}, other)
        )
        settings = gateway_environment(score, house.engine, f"{folder}/score")
        stack.enter_context(started(GATEWAY_COMMAND, settings, other))
        stack.enter_context(
            started(f"{python}.peers.judge --port {judge} --score {house.score}", {}, other)
        )
        yield house, process


async def run(seconds: float, streams: int) -> dict[str, Cost]:
    """The cost of each server that is installed; the bare engine is the first."""
    own = os.sched_getaffinity(0)
    cores = sorted(own)
    os.sched_setaffinity(0, cores[:1])
    costs = dict[str, Cost]()
    connector = aiohttp.TCPConnector(limit=0)
    with ExitStack() as stack:
        house, engine = stack.enter_context(standing(stack, cores[:1]))
        async with aiohttp.ClientSession(connector=connector) as session:
            await ready(session, f"{house.engine}/health", engine)
            await ready(session, f"{house.score}/readyz", engine, START_WITHIN_S)
            await ready(session, f"{house.judge}/health", engine)
            [costs["engine alone"]] = await measure(
                session, house.engine, engine, CHUNKS, seconds, (streams,)
            )
            for subject in SUBJECTS:
                programs = installed(subject.needs) if subject.needs else Path()
                if programs is None:
                    progress.log(f"{subject.name}: not installed, left out")
                    continue
                port = free_port()
                url = f"http://127.0.0.1:{port}"
                environment = gateway_environment(port, house.engine, f"{house.folder}/{port}")
                environment |= PEERS_ENVIRONMENT | {"SCORE_URL": house.score}
                command = subject.command(house, port, programs)
                progress.log(f"starting {subject.name}")
                with started(command, environment, cores[-1:]) as process:
                    await ready(session, f"{url}{subject.ready}", process, START_WITHIN_S)
                    [costs[subject.name]] = await measure(
                        session, url, process, CHUNKS, seconds, (streams,)
                    )
    os.sched_setaffinity(0, own)
    return costs


def table(costs: dict[str, Cost]) -> Table:
    view = Table("server", title=f"Relaying a reply of {CHUNKS} chunks", box=box.SIMPLE)
    for heading in ("CPU µs a chunk", "CPU ms a request", "times ours", "failed"):
        view.add_column(heading, justify="right")
    ours = costs[SUBJECTS[0].name].cpu_us_per_chunk
    for name, cost in costs.items():
        times = cost.cpu_us_per_chunk / ours
        figures = f"{cost.cpu_us_per_chunk:.1f}", f"{cost.cpu_ms_per_request:.2f}", f"{times:.2f}"
        view.add_row(name, *figures, str(cost.failed))
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each server")
    parser.add_argument("--streams", type=int, default=8, help="at a time")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        costs = uvloop.run(run(options.seconds, options.streams))
    except (RuntimeError, aiohttp.ClientError) as error:
        sys.exit(f"compare: {error}")
    if options.json:
        print(json.dumps({"chunks": CHUNKS, "servers": {n: asdict(c) for n, c in costs.items()}}))
    else:
        Console().print(table(costs))


if __name__ == "__main__":
    main()
