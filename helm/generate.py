"""Make README.md and values.schema.json of the chart from values.yaml: `make chart`.

A value's meaning is the comment before it. Its type is its default's; schema.yaml says what a
default cannot. The schema of `gateway.settings` is that of the gateway's settings themselves.
With --check, nothing is written, and the exit status is 1 if something would have been.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from server.settings import Settings

HERE = Path(__file__).parent
CHART = HERE / "safechat"
Json = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """One value that may be set. path: its dotted name."""

    path: str
    default: object
    meaning: str


def read(text: str) -> Iterator[Value]:
    """All values of a commented values.yaml, in its order. Raises ValueError without a comment."""
    lines = text.splitlines()
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    yield from _walk(tree, "", lines, yaml.safe_load(text))


def _walk(node: Any, prefix: str, lines: list[str], values: Json) -> Iterator[Value]:
    for key, value in node.value:
        path, meaning = f"{prefix}{key.value}", _comment(lines, key.start_mark.line)
        default = values[key.value]
        if isinstance(value, yaml.MappingNode) and _has_meanings(value, lines):
            yield from _walk(value, f"{path}.", lines, default)
        elif not meaning:
            raise ValueError(f"values.yaml: {path} has no comment before it")
        else:
            yield Value(path, default, meaning)


def _has_meanings(node: Any, lines: list[str]) -> bool:
    """Whether a mapping is a section, its entries explained one by one."""
    inner = [key.start_mark.line for key, _ in node.value]
    deeper = [value for _, value in node.value if isinstance(value, yaml.MappingNode)]
    return not node.flow_style and (
        any(_comment(lines, line) for line in inner)
        or any(_has_meanings(value, lines) for value in deeper)
    )


def _comment(lines: list[str], line: int) -> str:
    said: list[str] = []
    while line and lines[line - 1].lstrip().startswith("# "):
        line -= 1
        said.insert(0, lines[line].strip().removeprefix("# "))
    return " ".join(said)


def readme(values: list[Value]) -> str:
    head = (CHART / "README.head.md").read_text("utf-8")
    rows = [f"| `{v.path}` | `{_compact(v.default)}` | {v.meaning} |" for v in values]
    return "\n".join([head, "| Value | Default | Meaning |", "|---|---|---|", *rows, ""])


def _compact(value: object) -> str:
    return json.dumps(value).replace("|", "\\|")


def schema(values: list[Value]) -> Json:
    special: Json = yaml.safe_load((HERE / "schema.yaml").read_text("utf-8"))
    settings = _settings()
    root = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": settings.pop("$defs") | special.pop("$defs"),
        **_section(),
    }
    root["properties"]["global"] = {"type": "object"}
    for value in values:
        *sections, name = value.path.split(".")
        place = root
        for section in sections:
            place = place["properties"].setdefault(section, _section())
        known = special.pop(value.path, None) or special.get(f"*.{name}")
        if value.path == "gateway.settings":
            known = settings
        place["properties"][name] = {
            "description": value.meaning,
            **(known or _type(value)),
        }
    if left := [path for path in special if not path.startswith("*.")]:
        raise ValueError(f"schema.yaml: no such values: {', '.join(left)}")
    return root


def _section() -> Json:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _type(value: Value) -> Json:
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 1}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case dict():
            return {"type": "object"}
    raise ValueError(f"schema.yaml must say what {value.path} may be: its default is null")


def _settings() -> Json:
    """The schema of the gateway's settings, without what is only for people and for code."""
    plain: Json = _without(Settings.model_json_schema(), {"title", "default", "description"})
    return plain


def _without(tree: Any, names: set[str], *, of_schema: bool = True) -> Any:
    if isinstance(tree, list):
        return [_without(item, names) for item in tree]
    if not isinstance(tree, dict):
        return tree
    # The keys of `properties` and `$defs` are names of ours, whatever they are called.
    return {
        key: _without(value, names, of_schema=key not in ("properties", "$defs"))
        for key, value in tree.items()
        if not (of_schema and key in names)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    check = parser.parse_args().check
    values = list(read((CHART / "values.yaml").read_text("utf-8")))
    made = {
        CHART / "README.md": readme(values),
        CHART / "values.schema.json": json.dumps(schema(values), indent=1) + "\n",
    }
    stale = [p for p, text in made.items() if not p.exists() or p.read_text("utf-8") != text]
    for path in stale:
        print(f"{path.name} is stale: run `make chart`" if check else f"made {path.name}")
        if not check:
            path.write_text(made[path], "utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
