"""What `/metrics` says, as the operations page reads it: samples, and figures made of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

BLOCKS = ("blocked_prompt", "blocked_response")


@dataclass(frozen=True, slots=True)
class Histogram:
    """bounds: upper ends of the buckets, the last one infinite; counts: by bucket."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Estimated as Prometheus does, on a line within the bucket; None: nothing measured."""
        if not self.total:
            return None
        wanted, below, lower = q * self.total, 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and below + count >= wanted:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - below) / count
            below, lower = below + count, bound
        return lower


class Reading:
    """One look at the metrics of a gateway."""

    def __init__(self, exposition: str) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                found = self._samples.setdefault(sample.name, [])
                found.append((sample.labels, float(sample.value)))

    def value(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name that carry these labels."""
        return sum(value for _, value in self._matching(name, labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The sums by one label's values."""
        found: dict[str, float] = {}
        for carried, value in self._matching(name, labels):
            key = carried.get(label, "")
            found[key] = found.get(key, 0.0) + value
        return found

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Buckets of a histogram, summed over the labels that are not named."""
        found = self.by(f"{name}_bucket", "le", **labels)
        ends = sorted((float(bound), count) for bound, count in found.items())
        if not ends:
            return Histogram()
        counts = [ends[0][1], *(after[1] - before[1] for before, after in pairwise(ends))]
        return Histogram(tuple(bound for bound, _ in ends), tuple(counts))

    def _matching(
        self, name: str, labels: Mapping[str, str]
    ) -> Iterator[tuple[Mapping[str, str], float]]:
        for carried, value in self._samples.get(name, ()):
            if labels.items() <= carried.items():
                yield carried, value

    @property
    def outcomes(self) -> dict[str, float]:
        return self.by("safechat_requests_total", "outcome")

    @property
    def requests(self) -> float:
        return sum(self.outcomes.values())

    @property
    def blocks(self) -> float:
        return sum(self.outcomes.get(name, 0.0) for name in BLOCKS)

    def false_refusals(self, state: str) -> float:
        """state: `suspected`, `confirmed` or `dismissed`."""
        return self.value("safechat_false_refusals_total", state=state)


@dataclass(frozen=True, slots=True)
class Point:
    """What is plotted over time, at one moment (UTC epoch seconds).

    Rates are shares of all requests so far, in [0, 1]; latencies are seconds, at the 95th
    percentile.
    """

    time: float
    requests: float
    block_rate: float | None
    false_refusal_rate: float | None
    first_token_s: float | None
    guard_wait_s: float | None
    waiting: float
    in_flight: float

    @classmethod
    def of(cls, reading: Reading, time: float) -> "Point":
        requests = reading.requests

        def share(part: float) -> float | None:
            return part / requests if requests else None

        return cls(
            time=time,
            requests=requests,
            block_rate=share(reading.blocks),
            false_refusal_rate=share(reading.false_refusals("suspected")),
            first_token_s=reading.histogram("safechat_time_to_first_token_seconds").quantile(0.95),
            guard_wait_s=reading.histogram("safechat_guard_wait_seconds").quantile(0.95),
            waiting=reading.value("safechat_journal_pending"),
            in_flight=reading.value("safechat_turns_in_flight"),
        )
