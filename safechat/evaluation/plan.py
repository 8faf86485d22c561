"""What `safechat eval all` does: the commands, in their order, with all their options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from safechat.evaluation.regress import WORSE

_ADVERSARIAL: Final = ("--role", "adversarial")
_HARMLESS: Final = ("--role", "harmless", "--role", "borderline")
_TASKS_WITH_DATA: Final = ("gsm8k", "truthfulqa", "toxigen")
_FEWER_SEEDS: Final = 6
"""Red teaming takes so many times fewer of each source: each seed is put in over twenty ways."""


@dataclass(frozen=True, slots=True)
class Step:
    """A `safechat` command. carded: the folder of a result that the card takes.

    also_fine: another exit status than 0 after which the next step starts.
    """

    words: tuple[str, ...]
    carded: Path | None = None
    also_fine: int = 0


@dataclass(frozen=True, slots=True)
class Other:
    """An endpoint to compare with, and its served name."""

    url: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """url, model: the gateway under test, which scores all texts.

    prompts: files of prompts of all roles; limit: so many of each source and task. data: folder of
    the benchmarks' files. rows, asked, judged: options by name, of the rows that are chosen, of
    all requests, and of the judge model.
    """

    out: Path
    url: str
    prompts: Sequence[Path]
    limit: int
    model: str | None = None
    against: Other | None = None
    data: Path | None = None
    rows: Mapping[str, object] = field(default_factory=dict)
    asked: Mapping[str, object] = field(default_factory=dict)
    judged: Mapping[str, object] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """Ends with the card of all that was measured."""
        found = [*self._of_one(), *(self._of_two(self.against) if self.against else ())]
        results = [str(step.carded) for step in found if step.carded is not None]
        return [*found, Step(("report", *results, "--out", str(self.out / "card")))]

    def _of_one(self) -> Iterator[Step]:
        seeds = {"--seeds": self.prompts, "--limit": max(1, self.limit // _FEWER_SEEDS)}
        tasks = ("bias", *(_TASKS_WITH_DATA if self.data else ()))
        yield self._run("safety", "eval safety", *self._prompts, *_ADVERSARIAL)
        yield self._run("refusal", "eval refusal", *self._prompts)
        yield self._run(
            "benchmarks",
            "eval benchmarks",
            *words({"--task": tasks, "--data": self.data, "--limit": self.limit}),
        )
        yield self._run(
            "redteam", "redteam run", *words({**seeds, **self.rows, **self.judged}), *_ADVERSARIAL
        )

    def _of_two(self, other: Other) -> Iterator[Step]:
        pair = words({"--against": other.url, "--against-model": other.model})
        yield self._run("helpfulness", "eval helpfulness", *pair, *self._prompts, *_HARMLESS)
        # It belongs to the comparison: the card is that of the gateway alone.
        theirs = self._run("refusal-against", "eval refusal", *self._prompts, of=other)
        yield replace(theirs, carded=None)
        compared = (str(theirs.carded), str(self.out / "refusal"))
        yield Step(("eval", "regress", *compared), also_fine=WORSE)

    @property
    def _prompts(self) -> tuple[str, ...]:
        return words({"--prompts": self.prompts, "--limit": self.limit, **self.rows, **self.judged})

    def _run(self, name: str, command: str, *options: str, of: Other | None = None) -> Step:
        whom = of or Other(self.url, self.model)
        where = {"--url": whom.url, "--model": whom.model, "--guard": self.url}
        kept = self.out / name
        return Step(
            (*command.split(), *words({**where, **self.asked, "--out": kept}), *options), kept
        )


def words(options: Mapping[str, object]) -> tuple[str, ...]:
    """Options as they are written: not at all, once, or once for each of several values."""
    found: list[str] = []
    for name, value in options.items():
        several = value if isinstance(value, list | tuple) else [value]
        for one in several:
            found += [] if one is None else [name, str(one)]
    return tuple(found)
