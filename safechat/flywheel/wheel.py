"""`safechat flywheel train` and `run`: the stages, and a whole turn of the wheel."""

import runpy
import sys
from enum import StrEnum
from typing import Annotated

import typer

from safechat.evaluate import needing_extra
from server.cli import explained


class Stage(StrEnum):
    """The scripts behind the names; each has its own `--help`."""

    REWARD = "reward"
    LLAMA_REWARD = "llama-reward"
    SFT = "sft"
    DISTILLATION = "distillation"
    REJECTION = "rejection"
    GHOST = "ghost-attention"
    MEASURE_GHOST = "measure-ghost"
    PPO = "ppo"
    GRPO = "grpo"
    EVALUATE = "evaluate"
    SECOND_JUDGE = "second-judge"

    @property
    def module(self) -> str:
        name = self.value.replace("-", "_")
        room = "" if self in (Stage.REWARD, Stage.LLAMA_REWARD) else "chat."
        return f"flywheel.training.{room}{name}"


PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def train(context: typer.Context, stage: Annotated[Stage | None, typer.Argument()] = None) -> None:
    """Run one stage of training; its flags follow, and `--help` shows them.

    \b
      safechat flywheel train sft --help
      safechat flywheel train rejection --config rejection/small --url http://127.0.0.1:8001 …
    """  # noqa: D301
    if stage is None:
        typer.echo(context.get_help())
        raise typer.Exit
    _run(stage.module, context.args)


def run_wheel(context: typer.Context) -> None:
    """Run a turn of the wheel: collect, train, evaluate, compare; it goes on after a kill.

    \b
      safechat flywheel run --config wheel/small
      safechat flywheel run --help
    """  # noqa: D301
    _run("flywheel.training.wheel", context.args)


def _run(module: str, arguments: list[str]) -> None:
    """As `python -m module arguments` does."""
    with explained(), needing_extra("train"):
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
