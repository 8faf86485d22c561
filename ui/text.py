"""Text from models and strangers, made harmless for a page."""

import re

_CODE = re.compile(r"(^ {0,3}```.*?(?:^ {0,3}```|\Z)|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def harmless(text: str) -> str:
    """The Markdown without HTML and images of its own: both are shown as they are written.

    Text comes from a model or from whoever it quotes, and an image's address can carry a
    conversation away. (The pages' Content-Security-Policy stands behind this.)
    """
    parts = _CODE.split(text)
    parts[::2] = [part.replace("<", "&lt;").replace("![", r"!\[") for part in parts[::2]]
    return "".join(parts)
