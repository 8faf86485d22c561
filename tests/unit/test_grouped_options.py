"""One parameter of a command stands for the options that are the fields of its dataclass."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from safechat.grouped import grouped_options

Seed = Annotated[int, typer.Option(help="Of all dice.")]


@dataclass(frozen=True, kw_only=True)
class Who:
    url: Annotated[str, typer.Option(help="Whom to ask.")]
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class What:
    rows: Annotated[list[str] | None, typer.Option("--row")] = None
    seed: Seed = 0


app = typer.Typer(rich_markup_mode=None)


@app.command()
@grouped_options
def command(*, what: What, loud: bool = False, who: Who) -> None:
    """Does a thing."""
    typer.echo(f"{what!r} {who!r} {loud}")


def test_fields_are_options_and_a_shared_one_goes_to_both() -> None:
    ended = CliRunner().invoke(
        app, ["--url", "u", "--seed", "3", "--row", "a", "--row", "b", "--loud"]
    )
    made = What(rows=["a", "b"], seed=3), Who(url="u", seed=3)
    assert ended.stdout == f"{made[0]!r} {made[1]!r} True\n"


def test_defaults_are_those_of_the_fields() -> None:
    ended = CliRunner().invoke(app, ["--url", "u"])
    assert ended.stdout == f"{What()!r} {Who(url='u')!r} False\n"


def test_help_shows_each_option_once_and_the_required_ones_first() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert "Does a thing." in text
    assert text.count("--seed") == 1
    places = [text.index(option) for option in ("--url", "--row", "--seed", "--loud")]
    assert places == sorted(places)


def test_a_required_option_that_is_missing_is_named() -> None:
    ended = CliRunner().invoke(app, [])
    assert ended.exit_code == 2
    assert "--url" in ended.stderr
