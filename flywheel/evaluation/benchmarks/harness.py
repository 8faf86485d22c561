"""lm-evaluation-harness as a program of its own: any task whose data lies in local files.

It is installed beside SafeChat, not into it, and asks the endpoint's chat completions. No hub is
reached: its data sets and models are told to stay offline.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from flywheel.evaluation.runs.result import Values

_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class HarnessFailed(ValueError):
    """The program is not there, or ended with an error."""


def run_harness(
    program: str,
    names: Sequence[str],
    *,
    include: Path,
    url: str,
    model: str,
    out: Path,
    limit: int | None,
    seed: int,
    parallel: int,
) -> dict[str, Values]:
    """Run tasks, and return values by item; the metrics are `harness/<task>`.

    program: of lm-evaluation-harness. include: folder of the tasks' YAML files. out: folder of
    its answers, which it caches there, so that it resumes. Raises HarnessFailed, OSError.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results"
    address = f"{url}/v1/chat/completions"
    options = {"model": model, "base_url": address, "num_concurrent": parallel, "max_retries": 10}
    command = [
        *(program, "run", "--model", "local-chat-completions", "--apply_chat_template"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in options.items())),
        *("--tasks", ",".join(names), "--include_path", str(include)),
        *("--output_path", str(results), "--log_samples", "--use_cache", str(out / "cache")),
        *("--seed", str(seed)),
        *(() if limit is None else ("--limit", str(limit))),
    ]
    try:
        subprocess.run(command, env=os.environ | _OFFLINE, stdout=subprocess.DEVNULL, check=True)
    except FileNotFoundError:
        raise HarnessFailed(
            f"there is no program {program}: install lm-eval[api] into an environment of its own, "
            "and name its lm_eval"
        ) from None
    except subprocess.CalledProcessError as error:
        raise HarnessFailed(
            f"{program} ended with status {error.returncode}; what it says stands above"
        ) from None
    return {id: values for name in names for id, values in _values(results, name)}


def _values(results: Path, task: str) -> Iterator[tuple[str, Values]]:
    """The first metric of each document, of the newest run."""
    logs = sorted(results.rglob(f"samples_{task}_*.jsonl"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise HarnessFailed(f"{results} has no samples of {task}")
    for line in logs[-1].read_bytes().split(b"\n"):
        if line:
            sample: dict[str, Any] = orjson.loads(line)
            id = f"{task}-{sample['doc_id']}"
            value = float(sample[sample["metrics"][0]])
            yield id, Values(group=id, values={f"harness/{task}": value})
