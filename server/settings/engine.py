"""What generates text, and the prompt that it sees."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr

from server.settings.section import Section, Url


class EngineSettings(Section):
    """An engine that runs elsewhere (`url`), or one that we start as a child process.

    model: for a child, a folder or a hub name; `bundled` is the small model that the wheel made,
    `bundled-base` what it was made from.
    """

    url: Url | None = None
    api_key: SecretStr | None = None
    model: str = "bundled"
    served_name: str | None = None
    tensor_parallel_size: int = Field(1, ge=1)
    max_model_len: int | None = Field(None, ge=64)
    chat_template: Path | None = None
    vllm_args: tuple[str, ...] = ()
    health_path: str = Field(
        "/health", pattern="^/", description="`/readiness` where the engine is vllm-router"
    )
    connect_timeout_s: float = Field(2.0, gt=0)
    first_chunk_timeout_s: float = Field(120.0, gt=0)
    chunk_timeout_s: float = Field(30.0, gt=0)


class GhostMode(StrEnum):
    """How an instruction stays in force over many turns (Llama 2, §3.3).

    once: rendered once, with the first turn that is kept.
    concatenate: for models not trained so, repeated in every user message.
    """

    ONCE = "once"
    CONCATENATE = "concatenate"


class GhostSettings(Section):
    mode: GhostMode = GhostMode.ONCE
    system_prompt: str | None = None
    reply_reserve: int = Field(512, ge=1, description="tokens kept free for the reply")
