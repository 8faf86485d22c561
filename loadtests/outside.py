"""Two load generators of other projects against our URL, and against the engine behind it.

    python -m loadtests.outside [--requests 16] [--streams 4] [--json]

Starts the whole system with the bundled model, unless --engine and --gateway name one that runs.
vLLM's own serving benchmark comes with vLLM. NVIDIA's aiperf has an environment of its own
(`python -m loadtests.peers.environments aiperf`). They know nothing of us: what they cannot
read would show as failed requests.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.peers.environments import installed
from loadtests.served import MODEL, add_sides, sides
from loadtests.servers import progress

TOKENIZER = Path(".cache/models") / MODEL
WORDS_IN, TOKENS_OUT = 24, 48
FIGURES = "completed", "failed", "output_throughput", "median_ttft_ms", "median_tpot_ms"
# The command line tool looks for a distribution named vllm, which the CPU build is not.
_VLLM_BENCH = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def vllm_bench(url: str, requests: int, streams: int) -> dict[str, Any]:
    """Figures of vLLM's serving benchmark. Raises CalledProcessError."""
    with TemporaryDirectory() as folder:
        options = {
            "backend": "openai-chat",
            "endpoint": "/v1/chat/completions",
            "base-url": url,
            "model": MODEL,
            "tokenizer": str(TOKENIZER),
            "dataset-name": "random",
            "random-input-len": WORDS_IN,
            "random-output-len": TOKENS_OUT,
            "num-prompts": requests,
            "max-concurrency": streams,
            "result-dir": folder,
            "result-filename": "result.json",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        _run([sys.executable, "-c", _VLLM_BENCH, *words, "--save-result", "--disable-tqdm"])
        found = json.loads((Path(folder) / "result.json").read_text())
    return {name: found[name] for name in FIGURES}


def aiperf(url: str, requests: int, streams: int) -> dict[str, Any] | None:
    """Figures of aiperf; None when it is not installed. Raises CalledProcessError."""
    programs = installed("aiperf")
    if programs is None:
        progress.log("aiperf is not installed, left out")
        return None
    with TemporaryDirectory() as folder:
        options = {
            "model": MODEL,
            "url": url,
            "endpoint-type": "chat",
            "tokenizer": str(TOKENIZER.absolute()),
            "concurrency": streams,
            "request-count": requests,
            "synthetic-input-tokens-mean": WORDS_IN,
            "output-tokens-mean": TOKENS_OUT,
            "random-seed": 0,
            "output-artifact-dir": folder,
            "ui": "none",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        _run(
            [str(programs / "aiperf"), "profile", *words, "--streaming", "--use-server-token-count"]
        )
        [path] = Path(folder).rglob("profile_export_aiperf.json")
        found = json.loads(path.read_text())
    return {
        "completed": round(found["request_count"]["avg"]),
        "failed": round((found.get("error_request_count") or {"avg": 0})["avg"]),
        "output_throughput": found["output_token_throughput"]["avg"],
        "median_ttft_ms": found["time_to_first_token"]["p50"],
        "median_tpot_ms": (found.get("inter_token_latency") or {"p50": None})["p50"],
    }


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, env=os.environ | _QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        progress.print(done.stdout.decode(errors="replace")[-3000:], markup=False)
        done.check_returncode()


def run(engine: str, gateway: str, requests: int, streams: int) -> dict[str, Any]:
    """Figures by client and side."""
    found: dict[str, Any] = {}
    for name, client in (("vllm bench serve", vllm_bench), ("aiperf", aiperf)):
        for side, url in (("engine", engine), ("gateway", gateway)):
            progress.log(f"{name} against the {side}")
            figures = client(url, requests, streams)
            if figures is not None:
                found.setdefault(name, {})[side] = figures
    return found


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Figures against the two that the options name, or against a system started for it."""
    async with sides(options) as (engine, gateway):
        return await asyncio.to_thread(run, engine, gateway, options.requests, options.streams)


def table(found: dict[str, Any]) -> Table:
    view = Table("client", "against", title="Clients of other projects", box=box.SIMPLE)
    for heading in ("completed", "failed", "tokens/s", "first token ms", "per token ms"):
        view.add_column(heading, justify="right")
    for client, both in found.items():
        for side, figures in both.items():
            speeds = (figures[name] for name in FIGURES[2:])
            counts = (str(figures[name]) for name in FIGURES[:2])
            view.add_row(client, side, *counts, *("" if s is None else f"{s:.1f}" for s in speeds))
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_sides(parser)
    parser.add_argument("--requests", type=int, default=16, help="of each client, to each side")
    parser.add_argument("--streams", type=int, default=4, help="at a time")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        found = asyncio.run(measured(options))
    except subprocess.CalledProcessError as error:
        sys.exit(f"outside: {error.cmd[0]} ended with {error.returncode}")
    except RuntimeError as error:
        sys.exit(f"outside: {error}")
    if options.json:
        print(json.dumps(found))
    else:
        Console().print(table(found))


if __name__ == "__main__":
    main()
