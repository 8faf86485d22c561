"""What a trained Llama reward model says of itself: spec.toml for the guard, a card for people."""

import json
from collections.abc import Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from guard.types import Axis


class Format(StrEnum):
    """How turns are written for the model: as its body learnt to read them, or plainly."""

    LLAMA2 = "llama2"
    CHATML = "chatml"
    PLAIN = "plain"


_TEMPLATES: Final = MappingProxyType(
    {
        Format.LLAMA2: {"user": ["[INST] ", " [/INST]"], "assistant": [" ", " </s>"]},
        Format.CHATML: {
            "user": ["<|im_start|>user\n", "<|im_end|>\n"],
            "assistant": ["<|im_start|>assistant\n", "<|im_end|>\n"],
        },
        Format.PLAIN: {"user": ["### User: ", "\n"], "assistant": ["### Assistant: ", "\n"]},
    }
)
_MARKERS: Final = MappingProxyType({Format.LLAMA2: [], Format.CHATML: [], Format.PLAIN: ["### "]})
# Before anything is known of the scores: needed to render, never to serve.
_UNKNOWN: Final = MappingProxyType(
    {stage: {"kind": "platt", "slope": 1.0, "intercept": 0.0} for stage in ("prompt", "response")}
)


def written_spec(
    axis: Axis,
    name: str,
    version: str,
    form: Format,
    window_bytes: int,
    stages: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A spec as `guard.reward.spec.RewardSpec` reads it. stages: calibration by stage."""
    return {
        "axis": axis.value,
        "name": name,
        "version": version,
        "window_bytes": window_bytes,
        "markers": _MARKERS[form],
        "logits": {"good": 0},
        "template": dict(_TEMPLATES[form]),
        "stages": {
            stage: {"calibration": line}
            for stage, line in (_UNKNOWN if stages is None else stages).items()
        },
    }


def toml(spec: dict[str, Any]) -> str:
    """The spec as TOML: its values are strings, numbers and lists, which JSON writes alike."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in spec.items() if not isinstance(v, dict)]
    for section in ("logits", "template"):
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in spec[section].items()]
    for stage, found in spec["stages"].items():
        line = ", ".join(f"{k} = {json.dumps(v)}" for k, v in found["calibration"].items())
        lines += ["", f"[stages.{stage}]", f"calibration = {{ {line} }}"]
    return "\n".join(lines) + "\n"


def card(
    name: str,
    version: str,
    axis: Axis,
    base: str,
    sources: Sequence[str],
    pairs: int,
    labelled: int,
    threshold: float,
    figures: dict[str, Any],
) -> str:
    """The model card, in Markdown."""
    return f"""# {name}, version {version}

A reward model for {axis}: one number for a conversation, higher is better. The body is {base};
`spec.toml` says how it is asked and what its number means.

- trained on {pairs} pairs and {labelled} labelled samples of: {", ".join(sources)}
- loss: ranking with margin and auxiliary classification (Touvron et al. 2023, §3.2.2)
- served by vLLM's pooling server, see `docs/reward-models.md`

## Measured on what was held back, at the threshold {threshold}

```json
{json.dumps(figures, indent=2)}
```

These rows chose the calibration, so figures on other data will be somewhat worse. Measure before
you rely on it: `safechat eval guard`.
"""
