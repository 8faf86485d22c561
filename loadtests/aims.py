"""What the benchmarks are meant to show, and whether they do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """part: whose figures tell. measured: one of them; None: it is missing. holds: will that do?"""

    words: str
    part: str
    measured: Callable[[Json], float | None]
    holds: Callable[[float], bool]
    shown: str = "{:.2f}"


def _relayed(figures: Json) -> float:
    costs = figures["servers"]["gateway"]
    return max(float(cost["cpu_us_per_chunk"]) for cost in costs)


def _peer(name: str) -> Callable[[Json], float | None]:
    def times_ours(figures: Json) -> float | None:
        servers = figures["servers"]
        if name not in servers:
            return None
        ours = float(servers["safechat, guarded"]["cpu_us_per_chunk"])
        return float(servers[name]["cpu_us_per_chunk"]) / ours

    return times_ours


def _at_sixteen(figures: Json) -> float:
    return next(float(r["ratio"]) for r in figures["levels"] if r["streams"] == 16)


def _slowest_judge(figures: Json) -> float:
    return max(float(figures[axis]) for axis in ("safety", "helpfulness"))


AIMS = (
    Aim(
        "relaying: at most 60 µs of CPU a chunk", "relay", _relayed, lambda v: v <= 60, "{:.0f} µs"
    ),
    Aim(
        "LiteLLM, unguarded: at least 12 times that",
        "peers",
        _peer("LiteLLM"),
        lambda v: v >= 12,
    ),
    Aim(
        "NeMo Guardrails with rails: at least 12 times that",
        "peers",
        _peer("NeMo Guardrails, guarded"),
        lambda v: v >= 12,
    ),
    Aim(
        "each reward model: at most 10 ms for a turn of 128 tokens",
        "judging",
        _slowest_judge,
        lambda v: v <= 10,
        "{:.1f} ms",
    ),
    Aim(
        "real model, 16 streams: at least 0.85 of the engine's throughput",
        "guarded",
        _at_sixteen,
        lambda v: v >= 0.85,
    ),
    Aim(
        "real model, one stream: first text at most 20 ms later",
        "overhead",
        lambda f: float(f["first_ms"]["difference"]),
        lambda v: v <= 20,
        "{:+.1f} ms",
    ),
    Aim(
        "a thousand streams: none fails",
        "crowd",
        lambda f: float(f["failed"]),
        lambda v: not v,
        "{:.0f}",
    ),
    Aim(
        "a thousand streams: under 500 MB",
        "crowd",
        lambda f: float(f["peak_mb"]),
        lambda v: v < 500,
        "{:.0f} MB",
    ),
    Aim(
        "a thousand streams: the slowest within 3 times the median",
        "crowd",
        lambda f: float(f["slowest_to_median"]),
        lambda v: v <= 3,
    ),
    Aim(
        "turn 20: at most 1.5 times turn 3",
        "turns",
        lambda f: float(f["ratio"]),
        lambda v: v <= 1.5,
    ),
    Aim(
        "an hour of soak: no outcome unexplained",
        "soak",
        lambda f: float(len(f["unexplained"])),
        lambda v: not v,
        "{:.0f}",
    ),
    Aim(
        "an hour of soak: memory at most 1.1 times as large at the end",
        "soak",
        lambda f: float(f["growth"]),
        lambda v: v <= 1.1,
    ),
)


def rows(results: Json) -> Iterator[list[str]]:
    """(aim, what was measured, whether it held) of every aim."""
    for aim in AIMS:
        part = results.get(aim.part)
        value = aim.measured(part["figures"]) if part else None
        if value is None:
            yield [aim.words, "not recorded", ""]
        else:
            yield [aim.words, aim.shown.format(value), "yes" if aim.holds(value) else "**no**"]
