"""The operations page."""

from ui.gateway import Gateway
from ui.key import key_field, recall


def page(gateway: Gateway) -> None:
    """Lay the page out in the current Blocks, and wire it."""
    recall(key_field(gateway))
