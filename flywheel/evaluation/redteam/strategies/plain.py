"""The request as it is: what every other strategy is measured against."""

from typing import Final

from flywheel.evaluation.redteam.strategy import Strategy, Vector

STRATEGIES: Final = (Strategy("plain", Vector.NONE, "the request as it is", lambda r: (r,)),)
