"""The data card of an export: what it is, where it comes from, and what to mind."""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import yaml

from flywheel.export.options import Format

_ABOUT: Final = MappingProxyType(
    {
        Format.PREFERENCE: "Two replies to one conversation, of which one is better. For "
        "TRL's `RewardTrainer` and `DPOTrainer`.",
        Format.SFT: "A conversation and the reply to learn. For TRL's `SFTTrainer`.",
        Format.PROMPTS: "Conversations that end in the user's words, without a reply. For "
        "sampling and for TRL's `GRPOTrainer` and `RLOOTrainer`.",
        Format.SAFETY: "A conversation, a reply, and whether people found it safe. For TRL's "
        "`KTOTrainer`, and for safety reward models.",
        Format.DISTILLATION: "Adversarial conversations with a reply that the guard's safety "
        "model scores above the first one, without the preprompt that got it (context "
        "distillation). For TRL's `SFTTrainer`.",
        Format.GHOST: "Conversations of several turns under one instruction at the start, for "
        "Ghost Attention. For TRL's `SFTTrainer`.",
    }
)

_FIELDS: Final = MappingProxyType(
    {
        "turn_id": "the turn in the journal that the row comes from",
        "prompt": "messages up to the reply, the system prompt first",
        "chosen": "the better reply",
        "rejected": "the worse reply",
        "margin": "how clearly it is better, for the ranking loss",
        "completion": "the reply",
        "messages": "the conversation with its reply",
        "label": "true where the majority of raters finds the reply safe",
        "adversarial": "whether the guard found the prompt unsafe",
        "safety": "the guard's score of this reply, a probability",
        "original_safety": "the guard's score of the reply that it replaces",
        "source": "who or what made the label or the reply",
    }
)

_REASONS: Final = MappingProxyType(
    {
        "no_content": "the journal does not keep the text of the turn",
        "nothing_for_this_format": "the turn has nothing of this kind",
        "no_reply": "the text of a reply is not kept",
        "same_reply": "both replies are the same",
        "too_few_raters": "fewer raters than asked for",
        "no_majority": "raters are evenly split",
        "low_agreement": "raters agree less than asked for",
        "chosen_unsafe": "the better reply is unsafe while the other is safe",
        "not_better": "the reply does not score above the other",
        "not_completed": "the turn did not end well, or is flagged",
        "contaminated": "it shares a run of words with evaluation data",
        "near_duplicate": "it is nearly the same as an earlier example",
    }
)


def card(manifest: Mapping[str, Any]) -> str:
    """Markdown with the front matter that `datasets.load_dataset` reads."""
    splits = manifest["splits"]
    front = {
        "pretty_name": f"SafeChat {manifest['format']}",
        "tags": ["safechat", "trl", manifest["format"]],
        "configs": [
            {
                "config_name": _config_name(splits),
                "data_files": [
                    {"split": name, "path": split["file"]} for name, split in splits.items()
                ],
            }
        ],
    }
    sections = (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {front['pretty_name']}",
        _ABOUT[Format(manifest["format"])],
        "## Splits\n\n" + _table(("split", "rows"), [(n, s["rows"]) for n, s in splits.items()]),
        "A conversation lies in one split as a whole, and in the same one in every export.",
        "## Columns\n\n"
        + _table(("column", "meaning"), [(f"`{c}`", _FIELDS[c]) for c in manifest["columns"]]),
        "## What was left out\n\n"
        f"Of {manifest['turns']} turns came {manifest['kept']} examples.\n\n"
        + _table(
            ("reason", "times", "meaning"),
            [(f"`{r}`", n, _REASONS[r]) for r, n in manifest["dropped"].items()],
        ),
        "## Where it comes from\n\n" + _origin(manifest),
        "## What to mind\n\n"
        "- It holds what people typed and models answered, unsafe text included.\n"
        "- Raters and users are those of one installation; they speak for nobody else.\n"
        "- Conversations that were erased are not in it. Export again after an erasure, and "
        "throw older exports away.",
    )
    return "\n\n".join(sections) + "\n"


def _config_name(splits: Mapping[str, Any]) -> str:
    """Another name for other rows: `datasets` takes what it has cached under a known one."""
    digests = "".join(split["sha256"] for split in splits.values())
    return f"export-{sha256(digests.encode()).hexdigest()[:12]}"


def _origin(manifest: Mapping[str, Any]) -> str:
    options = manifest["options"]
    lines = [
        f"- replies by: {', '.join(manifest['engine_models']) or 'unknown'}",
        f"- judged by: {', '.join(manifest['guard_models']) or 'nobody'}",
        f"- labels: {options['labels']}, of at least {options['min_raters']} raters, with an "
        f"agreement of at least {options['min_agreement']:g}",
        f"- turn records of schema version {manifest['schema_version']}",
    ]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return "none"
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
