"""Loads the model that a stage starts from, and refuses what could not work later."""

from pathlib import Path
from typing import Any

import torch

from flywheel.training.chat.stage import StageError

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load_tokenizer(model: Path, template: Path | None = None) -> Any:
    """A fast tokenizer with a chat template and a padding token. Raises StageError.

    template: a Jinja file in place of the model's own template.
    """
    from transformers import AutoTokenizer

    if not (model / "tokenizer.json").is_file():
        raise StageError(f"{model} has no tokenizer.json: name a folder with model and tokenizer")
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    if template is not None:
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    if not tokenizer.chat_template:
        raise StageError(
            f"{model} has no chat template, so nobody knows where a reply begins: give one with "
            "--template (server/templates/llama2.jinja is Llama 2's)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def load_chat_model(model: Path, tokenizer: Any) -> Any:
    """A causal language model. Raises StageError."""
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    check_vocabulary(network, tokenizer, model)
    return network


def check_vocabulary(network: Any, tokenizer: Any, model: Path) -> None:
    """Raises StageError where the tokenizer is another model's."""
    rows = network.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise StageError(
            f"the tokenizer of {model} has {len(tokenizer)} tokens and the model {rows} "
            "embeddings: it is another model's tokenizer, take the one that came with the weights"
        )
    configured = network.config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    if configured is not None and not all(0 <= end < len(tokenizer) for end in ends):
        raise StageError(
            f"{model} ends replies at token {configured}, which its tokenizer does not have: "
            "take the tokenizer that came with the weights"
        )


def with_lora(
    network: Any, rank: int, alpha: int, *, start: Path | None = None, task: str = "CAUSAL_LM"
) -> Any:
    """The network with an adapter on all linear layers to train; rank 0 trains all weights.

    start: an earlier adapter to go on from, with the rank that it has. It is not merged: what
    comes out is an adapter on the same weights, which are the ones that the engine serves.
    """
    if start is not None:
        from peft import PeftModel

        if not (start / "adapter_config.json").is_file():
            raise StageError(f"{start} is no folder with an adapter")
        return PeftModel.from_pretrained(network, start, is_trainable=True)
    if rank == 0:
        return network
    from peft import LoraConfig, get_peft_model

    names = {name.rsplit(".", 1)[-1] for name, _ in network.named_modules()}
    targets = [name for name in LORA_TARGETS if name in names]
    if not targets:
        raise StageError(
            f"no layer of the model is named as Llama's ({', '.join(LORA_TARGETS)}): train all "
            "weights with --lora-rank 0"
        )
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, task_type=task
    )
    return get_peft_model(network, config)
