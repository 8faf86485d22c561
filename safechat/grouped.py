"""Options that several commands share, written once as the fields of a dataclass."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, get_type_hints

Command = Callable[..., None]


def grouped_options(command: Command) -> Command:
    """Let a parameter whose type is a dataclass stand for the options that are its fields.

    A field is written as Typer wants a parameter: an annotation with its option, and a default
    where it may be left out. A name that two dataclasses have is one option, and both get it.
    `--help` shows what must be given first, and the rest in the order of the parameters.
    """
    parameters = list(inspect.signature(command).parameters.values())
    options: dict[str, Parameter] = {}
    for parameter in parameters:
        for option in _options(parameter):
            options.setdefault(option.name, option)

    @wraps(command)
    def called(**given: Any) -> None:
        command(**{parameter.name: _gathered(parameter, given) for parameter in parameters})

    optional_last = sorted(options.values(), key=lambda option: option.default is not option.empty)
    called.__signature__ = Signature(optional_last)  # type: ignore[attr-defined]
    return called


def _options(parameter: Parameter) -> Iterator[Parameter]:
    if not is_dataclass(parameter.annotation):
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY)
        return
    types = get_type_hints(parameter.annotation, include_extras=True)
    for field in fields(parameter.annotation):
        default = Parameter.empty if field.default is MISSING else field.default
        yield Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
        )


def _gathered(parameter: Parameter, given: dict[str, Any]) -> Any:
    """The value of a command's own parameter, out of those of the options."""
    group = parameter.annotation
    if isinstance(group, type) and is_dataclass(group):
        return group(**{field.name: given[field.name] for field in fields(group)})
    return given[parameter.name]
