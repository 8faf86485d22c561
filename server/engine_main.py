"""The entry point of the engine's image: vLLM, called as the gateway calls a child of its own.

    python -m server.engine_main --model meta-llama/Llama-2-7b-chat-hf -- --max-num-seqs 64

It becomes vLLM. It needs the standard library alone, so that the image needs nothing but vLLM.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from server.engine_command import Build, EngineCommand, EngineNotInstalledError, installed_build


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Our options; `vllm_args` has what stands behind `--`."""
    parser = argparse.ArgumentParser(
        prog="python -m server.engine_main",
        description="Start vLLM as SafeChat does. What stands behind -- goes to vLLM.",
    )
    parser.add_argument("--model", required=True, help="a folder or a hub name")
    parser.add_argument("--served-name", help="the name in requests; default: the model's")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--max-model-len", type=int, help="tokens of prompt and reply")
    parser.add_argument("--no-tools", action="store_true", help="for models that do not chat")
    at = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:at])
    options.vllm_args = tuple(words[at + 1 :])
    return options


def command_line(options: argparse.Namespace, build: Build) -> tuple[list[str], dict[str, str]]:
    """What is executed, and its environment."""
    command = EngineCommand(
        model=options.model,
        served_name=options.served_name or options.model,
        tensor_parallel_size=options.tensor_parallel_size,
        max_model_len=options.max_model_len,
        tool_call_parser=None if options.no_tools else "hermes",
        vllm_args=options.vllm_args,
    )
    words = command.arguments(build, options.host, options.port)
    if "--headless" in options.vllm_args:
        # A node without an API server of its own: only vLLM's own command knows it.
        words = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *words[4:]]
    return words, command.environment(build)


def main() -> None:
    options = parse(sys.argv[1:])
    try:
        build = installed_build()
    except EngineNotInstalledError as error:
        sys.exit(str(error))
    words, environment = command_line(options, build)
    os.execve(words[0], words, environment)


if __name__ == "__main__":
    main()
