"""What all stages share: settings from a TOML file and the command line, and how they fail.

A stage declares its settings once, as a frozen pydantic model. Its flags, its `--help` and the
check of its files follow from that. A flag wins over the file that `--config` names.
"""

import argparse
import errno
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

CONFIGS = Path(__file__).parent / "configs"


class StageError(Exception):
    """A stage cannot go on; the message says what to do. What it had finished stays."""


class Settings(BaseModel):
    """Settings of a stage. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def read(kind: type[S], doc: str | None, argv: Sequence[str] | None = None) -> S:
    """The settings that file and flags give. Exits with what is wrong, or after `--help`.

    doc: the stage's docstring; its first line is what `--help` begins with.
    """
    summary, _, more = (doc or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", metavar="FILE", help="TOML; or a name of the shipped ones, as sft/small"
    )
    for name, field in kind.model_fields.items():
        many = get_origin(field.annotation) is tuple
        default = "required" if field.is_required() else f"default: {field.get_default()}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            nargs="+" if many else None,
            metavar=name.upper(),
            help=f"{field.description or ''} ({default})".replace("%", "%%").strip(),
        )
    given = {k: v for k, v in vars(parser.parse_args(argv)).items() if v is not None}
    config = given.pop("config", None)
    values: dict[str, Any] = _file(config) if config else {}
    try:
        return kind.model_validate({**values, **given})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        parser.error("; ".join(problems))


def _file(name: str) -> dict[str, Any]:
    shipped = CONFIGS / f"{name}.toml"
    path = shipped if shipped.is_file() else Path(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(str(f.relative_to(CONFIGS).with_suffix("")) for f in CONFIGS.rglob("*.toml"))
        raise SystemExit(f"{name} is no file, and none of {', '.join(known)}") from None
    except tomllib.TOMLDecodeError as error:
        raise SystemExit(f"{path} is not TOML: {error}") from None


def run(main: Callable[[], None]) -> None:
    """Run a stage; what a person can mend ends in one line that says how, with status 2."""
    try:
        main()
    except StageError as error:
        print(f"stopped: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"stopped: the disk is full ({error.filename or 'while writing'}): free some space "
            "and give the same command again; it goes on where it was",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
