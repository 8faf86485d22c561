"""The documentation names what the code has, and nothing that it has not."""

import ast
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from flywheel.records import Outcome
from guard.gate import Schedule
from guard.types import Flag, Stage
from safechat.__main__ import app as command_line
from server import errors
from server.choice import Choice, Judgement
from server.errors import ApiError
from server.metrics import Metrics
from server.routes import admin, chat, feedback, health, models, moderations, review, rlhf, score
from server.schema import REFUSED_FIELDS, ChatRequest
from server.settings import ApiKey, Settings
from tests.fakes.scorer import scripted_guard

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
API = ROOT / "docs" / "api.md"
OPERATIONS = ROOT / "docs" / "operations.md"
STRUCTURE = ROOT / "docs" / "structure.md"
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def written(value: object) -> str:
    """A default as the tables of docs/operations.md write it."""
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, frozenset):
        return f"`[{', '.join(sorted(written(v).strip('`') for v in value))}]`"
    if isinstance(value, dict):
        return f"`{value}`"
    if isinstance(value, tuple):
        return "`[]`" if not value else f"`{list(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    return f'`"{value.value if isinstance(value, Enum) else value}"`'


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and written default of every setting."""
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            yield from settings(type(default), f"{prefix}{name}.")
        elif name == "keys":
            yield from settings(ApiKey, "keys.")
        else:
            yield f"{prefix}{name}", written(default)


@pytest.mark.parametrize(("name", "default"), list(settings(Settings)))
def test_every_setting_stands_in_the_reference_with_its_default(name: str, default: str) -> None:
    assert f"| `{name}` | {default} |" in text(OPERATIONS)


def test_the_reference_has_no_setting_that_is_gone() -> None:
    sections = "|".join(Settings.model_fields)
    row = rf"^\| `((?:{sections})\.[a-z0-9_.]+|redis_\w+)` \|"
    named = set(re.findall(row, text(OPERATIONS), re.M))
    assert named == {name for name, _ in settings(Settings)}


def test_every_metric_is_named_with_its_type() -> None:
    for family in Metrics().registry.collect():
        if not family.name.startswith("safechat_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"| `{name}` | {family.type} |" in text(OPERATIONS)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_explained(outcome: Outcome) -> None:
    assert f"| `{outcome}` |" in text(OPERATIONS)


def concrete(kind: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    for child in kind.__subclasses__():
        if hasattr(child, "status") and child.__module__ == errors.__name__:
            yield child
        yield from concrete(child)


@pytest.mark.parametrize("error", list(concrete()), ids=lambda error: error.__name__)
def test_every_error_is_in_the_table(error: type[ApiError]) -> None:
    assert f"| `{error.__name__}` | {error.status} | `{error.type}` |" in text(API)


def test_every_code_of_an_error_is_explained() -> None:
    trees = [ast.parse(text(file)) for file in (ROOT / "server").rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    values = [call.value for call in calls if call.arg == "code"]
    codes = [value.value for value in values if isinstance(value, ast.Constant)]
    assert codes
    for code in codes:
        assert f"`{code!s}`" in text(API)


@pytest.mark.parametrize(("field", "why"), list(REFUSED_FIELDS.items()))
def test_every_refused_field_is_named_with_the_reason(field: str, why: str) -> None:
    assert re.search(rf"^\|.*`{field}`.* \| {re.escape(why)} \|$", text(API), re.M)


@pytest.mark.parametrize("field", list(ChatRequest.model_fields))
def test_every_request_field_is_named(field: str) -> None:
    assert f"`{field}`" in text(API)


def test_every_field_of_the_guard_object_is_explained() -> None:
    blocked = Choice(0, scripted_guard(), "id", Judgement()).refuse(Stage.PROMPT)
    assert blocked.guard
    for field in blocked.guard:
        assert f"| `{field}` |" in text(API)


@pytest.mark.parametrize("flag", list(Flag))
def test_every_flag_is_explained(flag: Flag) -> None:
    assert f"| `{flag}` |" in text(API)


def test_every_route_is_listed() -> None:
    for routes in (chat, models, moderations, score, rlhf, feedback, review, admin, health):
        for route in routes.router.routes:
            assert isinstance(route, APIRoute)
            path = route.path.replace(":path", "")
            for method in route.methods:
                assert f"| `{method} {path}` |" in text(API)


def test_the_checkpoints_are_those_of_the_gate() -> None:
    schedule = Schedule()
    *most, last = schedule.distances
    words = " ".join(text(API).split())
    assert f"distances of {', '.join(map(str, most))} and {last} characters" in words
    assert f"then every {schedule.cap}." in words
    assert f"over {schedule.reach} characters at most" in words
    assert f"at most {schedule.cap + schedule.reach} characters of text" in words
    assert f"reach back up to {schedule.window} characters" in words


def anchors(page: Path) -> set[str]:
    """The fragments that the page's headings make."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@by_name
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text(page)):
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


@by_name
def test_modules_commands_and_make_targets_exist(page: Path) -> None:
    for module in re.findall(r"python -m ([a-z_.]+[a-z])", text(page)):
        assert find_spec(module), module
    commands = set(typer.main.get_command(command_line).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"safechat ([a-z]+)\b(?=[ `\n])", text(page))) <= commands
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text(page), re.M)) <= targets


@by_name
def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    rooms = "server|guard|flywheel|ui|loadtests|tests|docs|requirements"
    for path in re.findall(rf"`((?:{rooms})/[\w./]+)`", text(page)):
        assert (ROOT / path).exists(), path
    tests = "".join(text(file) for file in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", text(page)):
        assert f"def {test}(" in tests, test


@pytest.mark.parametrize("room", ["guard", "server"])
def test_the_structure_names_every_file_of_a_room(room: str) -> None:
    section = text(STRUCTURE).split(f"### {room}")[1].split("\n#")[0]
    for file in (ROOT / room).glob("*.py"):
        if file.stem not in ("__init__", "die_with_parent", "gateway"):
            assert f"`{file.name}`" in section
