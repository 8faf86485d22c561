"""The attack strategies. A new one is a `Strategy` in a module of this folder.

A module names its own in `STRATEGIES`; this registry lists the modules, and a test holds it to
the folder.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from flywheel.evaluation.redteam.strategies import (
    encodings,
    escalation,
    framing,
    languages,
    markup,
    persuasion,
    plain,
    suppression,
    wording,
)
from flywheel.evaluation.redteam.strategy import Strategy

MODULES: Final = (
    plain,
    framing,
    persuasion,
    wording,
    encodings,
    languages,
    suppression,
    markup,
    escalation,
)
REGISTRY: Final[Mapping[str, Strategy]] = MappingProxyType(
    {strategy.name: strategy for module in MODULES for strategy in module.STRATEGIES}
)


class UnknownStrategy(ValueError):
    """A name that no plugin has."""


def strategies(names: Sequence[str] = ()) -> tuple[Strategy, ...]:
    """The named ones, or all. Raises UnknownStrategy."""
    if unknown := sorted(set(names) - REGISTRY.keys()):
        raise UnknownStrategy(
            f"no strategy is called {', '.join(unknown)}; there are {', '.join(REGISTRY)}"
        )
    return tuple(REGISTRY[name] for name in dict.fromkeys(names)) or tuple(REGISTRY.values())
