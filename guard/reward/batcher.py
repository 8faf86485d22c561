"""Answers for many streams at once, from one worker thread that this class owns.

The event loop never blocks on a model: it submits a sample and gets a future. The worker
goes by least attained service: of all samples that wait, the one that has had the fewest
steps comes next. So a prompt of a hundred windows is worked on between the others, and
delays each of them by one window at most. Models that cannot pause answer in one call
whatever waits for them, so load makes their batches larger and changes nothing else.
"""

import asyncio
import heapq
import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from guard.types import (
    Axis,
    Classifier,
    GuardBroken,
    GuardError,
    GuardOverloaded,
    GuardTimeout,
    GuardUnjudgeable,
    Labels,
    RewardModel,
    Sample,
    Score,
    Stepwise,
)

# How far a classifier's probabilities may be from adding up to 1.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class _Judge:
    """A reward model or the classifier, as the worker sees it.

    check: raises ValueError for an answer that cannot be one.
    """

    name: str
    answer: Callable[[Sequence[Sample]], Sequence[Any]]
    steps: Callable[[Sample], Generator[None, None, Any]] | None
    check: Callable[[Any], None]
    observe: Callable[[int, float], None]


@dataclass(slots=True, eq=False)
class _Job:
    """steps_done, seconds: what it has had of the worker. Only the worker writes them."""

    judge: _Judge
    sample: Sample
    future: asyncio.Future[Any]
    deadline: float
    steps: Generator[None, None, Any] | None = None
    steps_done: int = 0
    seconds: float = 0.0


# Steps that it had, its number, and the job: who had fewest comes first.
_Place = tuple[int, int, _Job]


class Batcher:
    """Owns the models' worker thread. Open and close it from the event loop.

    timeout_s: an answer that is not there in time fails: with `GuardUnjudgeable` when the
    worker was busy with just this long sample, with `GuardTimeout` when it never came to it.
    max_waiting: beyond so many unanswered samples, asking raises `GuardOverloaded`.
    max_batch: samples answered in one call of a model that cannot pause.
    observe, observe_labels: called in the event loop with samples and seconds.
    """

    def __init__(
        self,
        models: Mapping[Axis, RewardModel],
        classifier: Classifier | None = None,
        *,
        timeout_s: float = 5.0,
        max_waiting: int = 2048,
        max_batch: int = 32,
        observe: Callable[[Axis, int, float], None] = lambda axis, samples, seconds: None,
        observe_labels: Callable[[int, float], None] = lambda samples, seconds: None,
    ) -> None:
        self.models = dict(models)
        self.classifier = classifier
        self._judges = {
            axis: _reward_judge(axis, model, observe) for axis, model in self.models.items()
        }
        self._observe = observe
        self._labeller = None if classifier is None else _label_judge(classifier, observe_labels)
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._open_jobs: dict[_Job, None] = {}  # in the order of their deadlines
        self._sweeper: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> "Batcher":
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="reward-models", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        thread, self._thread = self._thread, None
        self._inbox.put(None)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for job in self._open_jobs:
            self._fail(job, GuardBroken("the guard is shutting down"))
        if thread is not None:
            await asyncio.to_thread(thread.join, self._timeout_s)

    def replace(self, model: RewardModel) -> None:
        """Judge from now on with another model of an axis. Samples that wait keep their judge."""
        self.models[model.axis] = model
        self._judges[model.axis] = _reward_judge(model.axis, model, self._observe)

    def submit(self, axis: Axis, sample: Sample) -> asyncio.Future[Score]:
        """Ask for a score. The future fails with a `GuardError` when there is none."""
        if axis not in self._judges:
            raise GuardBroken(f"no reward model for {axis}")
        return self._ask(self._judges[axis], sample)

    def label(self, sample: Sample) -> asyncio.Future[Labels]:
        """Ask the classifier. The future fails with a `GuardError` when there is no answer."""
        if self._labeller is None:
            raise GuardBroken("no classifier")
        return self._ask(self._labeller, sample)

    def _ask(self, judge: _Judge, sample: Sample) -> asyncio.Future[Any]:
        if self._thread is None or not self._thread.is_alive():
            raise GuardBroken("the guard is not running")
        if len(self._open_jobs) >= self._max_waiting:
            raise GuardOverloaded(f"{self._max_waiting} samples are waiting for an answer")
        future: asyncio.Future[Any] = self._loop.create_future()
        job = _Job(judge, sample, future, self._loop.time() + self._timeout_s)
        self._open_jobs[job] = None
        future.add_done_callback(lambda _: self._open_jobs.pop(job, None))
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(job.deadline, self._sweep)
        self._inbox.put(job)
        return future

    def _sweep(self) -> None:
        """Fail what is overdue. All jobs have the same patience, so the oldest come first."""
        self._sweeper = None
        now = self._loop.time()
        for job in self._open_jobs:
            if job.future.done():
                continue
            if job.deadline > now:
                self._sweeper = self._loop.call_at(job.deadline, self._sweep)
                return
            self._fail(job, self._overdue(job))

    def _overdue(self, job: _Job) -> GuardError:
        if job.steps_done:
            return GuardUnjudgeable(
                f"a sample so long that {job.judge.name} was not done within {self._timeout_s:g} s"
            )
        return GuardTimeout(f"no answer of {job.judge.name} within {self._timeout_s:g} s")

    @staticmethod
    def _fail(job: _Job, error: GuardError) -> None:
        if not job.future.done():
            job.future.set_exception(error)

    def _work(self) -> None:
        order = count()
        waiting: list[_Place] = []
        # Nothing here names a job: one that failed holds its turn by the traceback of its error,
        # and an idle worker must not keep it.
        while self._receive(waiting, order):
            self._judge_next(waiting, order)

    def _receive(self, waiting: list[_Place], order: Iterator[int]) -> bool:
        """Queue what has come, and wait for something where nothing has; False: it is over."""
        while not waiting or not self._inbox.empty():
            job = self._inbox.get()
            if job is None:
                return False
            heapq.heappush(waiting, (0, next(order), job))
        return True

    def _judge_next(self, waiting: list[_Place], order: Iterator[int]) -> None:
        batch = self._next_batch(waiting)
        if not batch:
            return
        if batch[0].judge.steps is None:
            self._answer(batch)
        elif not self._step(batch[0]):
            heapq.heappush(waiting, (batch[0].steps_done, next(order), batch[0]))

    def _next_batch(self, waiting: list[_Place]) -> list[_Job]:
        """The next sample, and for a model that cannot pause those that follow it."""
        batch: list[_Job] = []
        while waiting and len(batch) < self._max_batch:
            job = waiting[0][2]
            if batch and job.judge is not batch[0].judge:
                break
            heapq.heappop(waiting)
            if job.future.done():
                continue
            batch.append(job)
            if job.judge.steps is not None:
                break
        return batch

    def _step(self, job: _Job) -> bool:
        """Take one step; whether it was the last one."""
        started = perf_counter()
        answers: list[Any] | GuardError
        try:
            if job.steps is None:
                assert job.judge.steps is not None
                job.steps = job.judge.steps(job.sample)
            next(job.steps)
        except StopIteration as end:
            answers = [end.value]
        except BaseException as error:
            answers = _broken(job.judge, error)
        else:
            job.seconds += perf_counter() - started
            job.steps_done += 1
            return False
        self._hand_over([job], answers, job.seconds + perf_counter() - started)
        return True

    def _answer(self, jobs: list[_Job]) -> None:
        started = perf_counter()
        judge = jobs[0].judge
        answers: list[Any] | GuardError
        try:
            answers = list(judge.answer([job.sample for job in jobs]))
            if len(answers) != len(jobs):
                answers = GuardBroken(f"{judge.name}: {len(answers)} answers, {len(jobs)} samples")
        except BaseException as error:
            answers = _broken(judge, error)
        self._hand_over(jobs, answers, perf_counter() - started)

    def _hand_over(self, jobs: list[_Job], answers: list[Any] | GuardError, seconds: float) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, jobs, answers, seconds)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _deliver(self, jobs: list[_Job], answers: list[Any] | GuardError, seconds: float) -> None:
        if isinstance(answers, GuardError):
            for job in jobs:
                self._fail(job, answers)
        else:
            for job, answer in zip(jobs, answers, strict=True):
                try:
                    job.judge.check(answer)
                except (ValueError, TypeError, AttributeError) as error:
                    self._fail(job, GuardBroken(f"{job.judge.name} answered nonsense: {error}"))
                    continue
                if not job.future.done():
                    job.future.set_result(answer)
        jobs[0].judge.observe(len(jobs), seconds)


def _broken(judge: _Judge, error: BaseException) -> GuardError:
    """A model is foreign code: whatever it raises, a Rust panic too, the worker goes on."""
    if isinstance(error, GuardError):
        return error
    return GuardBroken(f"{judge.name} raised {type(error).__name__}: {error}")


def _reward_judge(
    axis: Axis, model: RewardModel, observe: Callable[[Axis, int, float], None]
) -> _Judge:
    def check(score: Score) -> None:
        if not (0.0 <= score.value <= 1.0 and math.isfinite(score.reward)):
            raise ValueError(f"value {score.value!r}, reward {score.reward!r}")

    def observed(samples: int, seconds: float) -> None:
        observe(axis, samples, seconds)

    steps = model.steps if isinstance(model, Stepwise) else None
    return _Judge(f"the {axis} model", model.score, steps, check, observed)


def _label_judge(classifier: Classifier, observe: Callable[[int, float], None]) -> _Judge:
    def check(labels: Labels) -> None:
        _check_distribution(list(labels.hazards.values()))
        if labels.refusals:
            _check_distribution(list(labels.refusals.values()))

    steps = classifier.steps if isinstance(classifier, Stepwise) else None
    return _Judge("the classifier", classifier.label, steps, check, observe)


def _check_distribution(probabilities: list[float]) -> None:
    right = all(0.0 <= p <= 1.0 for p in probabilities)
    if not right or abs(sum(probabilities) - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"probabilities {probabilities!r}")
