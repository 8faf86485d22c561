"""How many people come, over time: shapes for locust.

`PEAK` people at most; `STRETCH` multiplies the time that a shape takes, for a short try. Locust
looks once a second: below 0.04, what takes half a minute may pass unseen.
"""

import os

from locust import LoadTestShape

PEAK = int(os.environ.get("PEAK", "64"))
STRETCH = float(os.environ.get("STRETCH", "1"))
Steps = tuple[tuple[float, int], ...]


class _Stepped(LoadTestShape):
    """steps: until which second how many users are there."""

    abstract = True
    steps: Steps = ()

    def tick(self) -> tuple[int, float] | None:
        now = self.get_run_time() / STRETCH
        for until, users in self.steps:
            if now < until:
                return users, max(1.0, users / 4) / STRETCH
        return None


class Ramp(_Stepped):
    """More every half a minute, to the peak."""

    steps = tuple((30.0 * (n + 1), max(1, PEAK * (n + 1) // 8)) for n in range(8))


class Spike(_Stepped):
    """Few for half a minute, then everybody, then few again."""

    steps = ((30.0, max(1, PEAK // 8)), (60.0, PEAK), (90.0, max(1, PEAK // 8)))


class Soak(_Stepped):
    """Half of the peak for an hour."""

    steps = ((3600.0, max(1, PEAK // 2)),)


SHAPES = {"ramp": Ramp, "spike": Spike, "soak": Soak}
