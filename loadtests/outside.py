"""Two load generators of other projects against our URL, and against the engine behind it.

    python -m loadtests.outside --gateway http://127.0.0.1:8000 --engine http://127.0.0.1:8001

vLLM's own serving benchmark comes with vLLM. NVIDIA's aiperf has an environment of its own
(`python -m loadtests.peers.environments aiperf`). They know nothing of us: what they cannot
read would show as failed requests.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtests.guarded import MODEL
from loadtests.peers.environments import installed
from loadtests.servers import progress

TOKENIZER = Path(".cache/models") / MODEL
WORDS_IN, TOKENS_OUT = 24, 48
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
    names = "completed", "failed", "output_throughput", "median_ttft_ms", "median_tpot_ms"
    return {name: found[name] for name in names}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--engine", required=True, help="URL without /v1")
    parser.add_argument("--gateway", required=True, help="URL without /v1")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--streams", type=int, default=4)
    options = parser.parse_args()
    try:
        found = run(options.engine, options.gateway, options.requests, options.streams)
    except subprocess.CalledProcessError as error:
        sys.exit(f"outside: {error.cmd[0]} ended with {error.returncode}")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
