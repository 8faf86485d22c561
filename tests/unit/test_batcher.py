"""The batcher: one worker, batches under load, and a GuardError for all that goes wrong."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from guard.hazards import Hazard
from guard.reward.batcher import Batcher
from guard.types import (
    Axis,
    GuardBroken,
    GuardOverloaded,
    GuardTimeout,
    GuardUnjudgeable,
    Labels,
    Message,
    RefusalKind,
    Sample,
    Score,
    finished,
)
from tests.fakes.scorer import WordRewardModel


def sample(text: str) -> Sample:
    return Sample((Message("user", text),))


class Broken(WordRewardModel):
    """Answers with whatever a test wants."""

    answer: float | BaseException | None = None

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is None:
            return []
        return [Score(self.axis, self.answer, 0.0, self.model_id) for _ in samples]


async def test_each_sample_gets_its_own_score() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel()}) as batcher:
        texts = ["fine", "a bomb", "fine", "bomb"] * 20
        scores = await asyncio.gather(*(batcher.submit(Axis.SAFETY, sample(t)) for t in texts))
    assert [s.value for s in scores] == [0.05 if "bomb" in t else 0.95 for t in texts]


async def test_what_waits_is_scored_together() -> None:
    model = WordRewardModel(seconds=0.05)
    batches: list[int] = []
    async with Batcher(
        {Axis.SAFETY: model}, max_batch=8, observe=lambda axis, n, s: batches.append(n)
    ) as batcher:
        await asyncio.gather(*(batcher.submit(Axis.SAFETY, sample(str(i))) for i in range(17)))
    assert sum(model.calls) == 17
    assert max(model.calls) == 8
    assert len(model.calls) <= 4
    assert batches == model.calls


async def test_the_event_loop_goes_on_while_a_model_works() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel(seconds=0.3)}) as batcher:
        asked = batcher.submit(Axis.SAFETY, sample("x"))
        beats = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            beats += 1
    assert beats >= 10


async def test_a_slow_model_is_a_timeout() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel(seconds=0.4)}, timeout_s=0.05) as batcher:
        with pytest.raises(GuardTimeout):
            await batcher.submit(Axis.SAFETY, sample("x"))


class Panic(BaseException):
    """What a library written in Rust raises when it crashes: no Exception."""


@pytest.mark.parametrize(
    "answer",
    [float("nan"), 1.5, -0.1, "0.7", RuntimeError("cuda"), Panic("unwrap"), SystemExit(1), None],
)
async def test_a_model_that_raises_or_talks_nonsense_is_broken_and_the_worker_goes_on(
    answer: float | BaseException | None,
) -> None:
    model = Broken()
    model.answer = answer
    async with Batcher({Axis.SAFETY: model}) as batcher:
        with pytest.raises(GuardBroken):
            await batcher.submit(Axis.SAFETY, sample("x"))
        model.answer = 0.7
        assert (await batcher.submit(Axis.SAFETY, sample("x"))).value == 0.7


async def test_too_many_waiting_samples_are_refused_at_once() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel(seconds=0.2)}, max_waiting=3) as batcher:
        asked = [batcher.submit(Axis.SAFETY, sample("x")) for _ in range(3)]
        with pytest.raises(GuardOverloaded):
            batcher.submit(Axis.SAFETY, sample("x"))
        await asyncio.gather(*asked)
        assert (await batcher.submit(Axis.SAFETY, sample("x"))).value == 0.95


async def test_what_nobody_waits_for_is_not_scored() -> None:
    model = WordRewardModel(seconds=0.05)
    async with Batcher({Axis.SAFETY: model}) as batcher:
        first = batcher.submit(Axis.SAFETY, sample("x"))
        await asyncio.sleep(0.02)
        for _ in range(10):
            batcher.submit(Axis.SAFETY, sample("y")).cancel()
        await first
        await batcher.submit(Axis.SAFETY, sample("z"))
    assert sum(model.calls) == 2


async def test_closing_fails_what_is_open_and_refuses_more() -> None:
    batcher = Batcher({Axis.SAFETY: WordRewardModel(seconds=0.1)})
    async with batcher:
        batcher.submit(Axis.SAFETY, sample("x"))
        late = batcher.submit(Axis.SAFETY, sample("y"))
    with pytest.raises(GuardBroken, match="shutting down"):
        await late
    with pytest.raises(GuardBroken, match="not running"):
        batcher.submit(Axis.SAFETY, sample("z"))


async def test_an_axis_without_a_model_is_broken() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel()}) as batcher:
        with pytest.raises(GuardBroken, match="no reward model"):
            batcher.submit(Axis.HELPFULNESS, sample("x"))


async def test_answered_samples_behind_a_slow_one_do_not_count_as_waiting() -> None:
    model = WindowedModel(seconds=0.002)
    async with Batcher({Axis.SAFETY: model}, max_waiting=3) as batcher:
        long = batcher.submit(Axis.SAFETY, sample("word " * 100))
        for _ in range(10):
            await batcher.submit(Axis.SAFETY, sample("short"))
        assert not long.done()
        await long


@dataclass
class WindowedModel(WordRewardModel):
    """Looks at one word at a time, each for `seconds`, and may pause between them."""

    looked_at: list[str] = field(default_factory=list)
    hang_at: int | None = None
    gone: threading.Event = field(default_factory=threading.Event)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [finished(self.steps(each)) for each in samples]

    def steps(self, sample: Sample) -> Generator[None, None, Score]:
        words = sample.conversation[-1].text.split()
        for number, word in enumerate(words):
            if number:
                yield
            if number == self.hang_at:
                self.gone.wait(5)
            time.sleep(self.seconds)
            self.looked_at.append(word)
        value = 0.05 if "bomb" in words else 0.95
        return Score(self.axis, value, 0.0, self.model_id)


async def test_short_samples_are_answered_between_the_windows_of_a_long_one() -> None:
    model = WindowedModel(seconds=0.005)
    async with Batcher({Axis.SAFETY: model}) as batcher:
        long = batcher.submit(Axis.SAFETY, sample("long " * 150 + "bomb"))
        for number in range(10):
            before = len(model.looked_at)
            await batcher.submit(Axis.SAFETY, sample(f"short{number}"))
            # Windows of the long one that were under way when the short one came.
            assert model.looked_at.index(f"short{number}") - before <= 2
        assert not long.done()
        assert (await long).value == 0.05
    assert model.looked_at.count("long") == 150


async def test_two_long_samples_take_turns() -> None:
    model = WindowedModel(seconds=0.001)
    async with Batcher({Axis.SAFETY: model}) as batcher:
        texts = ["a " * 40, "b " * 40]
        await asyncio.gather(*(batcher.submit(Axis.SAFETY, sample(t)) for t in texts))
    assert set(model.looked_at[-10:]) == {"a", "b"}


async def test_a_sample_too_long_to_be_judged_in_time_is_told_from_a_slow_model() -> None:
    model = WindowedModel(seconds=0.01)
    async with Batcher({Axis.SAFETY: model}, timeout_s=0.2) as batcher:
        long = batcher.submit(Axis.SAFETY, sample("long " * 500))
        for _ in range(5):
            assert (await batcher.submit(Axis.SAFETY, sample("short"))).value == 0.95
        with pytest.raises(GuardUnjudgeable, match="so long"):
            await long
        looked_at = len(model.looked_at)
        assert (await batcher.submit(Axis.SAFETY, sample("short"))).value == 0.95
        assert len(model.looked_at) <= looked_at + 3


async def test_behind_a_model_that_hangs_every_sample_times_out() -> None:
    model = WindowedModel(hang_at=1)
    async with Batcher({Axis.SAFETY: model}, timeout_s=0.1) as batcher:
        hung = batcher.submit(Axis.SAFETY, sample("one two"))
        await asyncio.sleep(0.05)
        with pytest.raises(GuardTimeout):
            await batcher.submit(Axis.SAFETY, sample("three"))
        with pytest.raises(GuardUnjudgeable):
            await hung
        model.gone.set()
        model.hang_at = None
        assert (await batcher.submit(Axis.SAFETY, sample("four"))).value == 0.95


async def test_an_idle_worker_keeps_nothing_of_a_sample_that_failed() -> None:
    """The error's traceback holds whoever asked: a whole turn, text and all."""

    class Asker: ...

    asked: list[weakref.ref[Asker]] = []

    async def ask(batcher: Batcher) -> None:
        asker = Asker()
        asked.append(weakref.ref(asker))
        await batcher.submit(Axis.SAFETY, sample("fine"))

    async with Batcher({Axis.SAFETY: WordRewardModel(seconds=0.2)}, timeout_s=0.05) as batcher:
        with suppress(GuardTimeout):
            await ask(batcher)
        await asyncio.sleep(0.3)
        gc.collect()
        assert [ref() for ref in asked] == [None]


async def test_pausing_changes_no_score() -> None:
    model = WindowedModel()
    samples = [sample("a bomb " * n + "end") for n in range(12)]
    async with Batcher({Axis.SAFETY: model}) as batcher:
        scores = await asyncio.gather(*(batcher.submit(Axis.SAFETY, s) for s in samples))
    assert scores == model.score(samples)


@dataclass
class Namer:
    """A classifier that always says the same."""

    hazards: dict[Hazard, float]
    calls: list[int] = field(default_factory=list)
    model_id: str = "namer@1"

    def label(self, samples: Sequence[Sample]) -> list[Labels]:
        time.sleep(0.01)
        self.calls.append(len(samples))
        refusals = {RefusalKind.FULL: 0.25, RefusalKind.COMPLIANCE: 0.75}
        return [Labels(self.hazards, refusals if s.reply else {}, self.model_id) for s in samples]


async def test_a_classifier_is_served_by_the_same_worker_in_batches() -> None:
    namer = Namer({Hazard.HATE: 0.9, Hazard.PRIVACY: 0.1})
    async with Batcher({Axis.SAFETY: WordRewardModel()}, namer) as batcher:
        questions = [batcher.label(sample(str(i))) for i in range(20)]
        score = await batcher.submit(Axis.SAFETY, sample("bomb"))
        labels = await asyncio.gather(*questions)
    assert score.value == 0.05
    assert {each.hazard for each in labels} == {Hazard.HATE}
    assert sum(namer.calls) == 20
    assert len(namer.calls) <= 3


async def test_labels_that_are_no_probabilities_are_broken() -> None:
    for hazards in ({Hazard.HATE: 0.5}, {Hazard.HATE: float("nan")}, {Hazard.HATE: 2.0}, {}):
        async with Batcher({Axis.SAFETY: WordRewardModel()}, Namer(hazards)) as batcher:
            with pytest.raises(GuardBroken, match="nonsense"):
                await batcher.label(sample("x"))


async def test_without_a_classifier_there_are_no_labels() -> None:
    async with Batcher({Axis.SAFETY: WordRewardModel()}) as batcher:
        with pytest.raises(GuardBroken, match="no classifier"):
            batcher.label(sample("x"))
