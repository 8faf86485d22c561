"""Who takes part in a run, and the run itself: what every evaluation does alike."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from rich.progress import Progress

from flywheel.evaluation.judge.model import JudgeModel
from flywheel.evaluation.runs.answers import Answers, Row
from flywheel.evaluation.runs.endpoint import Endpoint
from flywheel.evaluation.runs.result import Kind
from flywheel.evaluation.runs.run import FAILED, Identified, ask_all

T = TypeVar("T", bound=Identified)


@dataclass(frozen=True, slots=True)
class Panel:
    """target: the endpoint under test. guard: a gateway whose `/v1/score` scores every text,
    whichever endpoint wrote it. judge: None where no judge model is asked."""

    target: Endpoint
    guard: Endpoint
    judge: JudgeModel | None = None

    async def about(self) -> dict[str, Any]:
        """Who takes part, for the result. Raises EndpointFailed."""
        found = {
            "url": self.target.url,
            "model": await self.target.model(),
            "sampling": self.target.sampling.as_json(),
            "guard": self.guard.url,
        }
        if self.judge is not None:
            endpoint = self.judge.endpoint
            found |= {"judge": endpoint.url, "judge_model": await endpoint.model()}
        return found


@dataclass(frozen=True, slots=True)
class RunOptions:
    """folder: of the answers and the result. parallel: items asked at the same time.
    threshold: safety in [0, 1] below which a reply is a violation. about: what else the answers
    depend on, such as the files asked from."""

    folder: Path
    progress: Progress
    parallel: int = 8
    seed: int = 0
    threshold: float = 0.5
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run brought. rows: by item, those that failed among them; seconds: of this go."""

    about: Mapping[str, Any]
    rows: Mapping[str, Row]
    seconds: float

    @property
    def done(self) -> dict[str, Row]:
        """The rows that hold an answer."""
        return {id: row for id, row in self.rows.items() if FAILED not in row}

    def counts(self, verdict: str | None = None) -> dict[str, int]:
        """What figures leave out. verdict: the key of a judge's verdict, None if malformed."""
        found = {"items": len(self.rows), "failed": len(self.rows) - len(self.done)}
        said = [row[verdict] for row in self.done.values() if verdict in row]
        return found | ({"malformed_verdicts": said.count(None)} if said else {})


async def carry_out(
    kind: Kind,
    items: Sequence[T],
    ask: Callable[[T], Awaitable[Row]],
    panel: Panel,
    options: RunOptions,
) -> Run:
    """Ask everything that the folder does not hold yet.

    Raises EndpointFailed (also as Interrupted), AnotherRun, OSError.
    """
    about = {"evaluation": kind.value, **await panel.about(), **options.about}
    started = perf_counter()
    with Answers(options.folder, about) as answers:
        rows = await ask_all(items, ask, answers, options.progress, parallel=options.parallel)
    models = {model for row in rows.values() for model in row.get("models", ())}
    return Run(about | {"guard_models": sorted(models)}, rows, perf_counter() - started)


def files_asked(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Names and hashes of files, so that a result says what it was made from."""
    return [{"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()} for path in paths]
