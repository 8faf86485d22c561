"""Where `make guard` puts the shipped models."""

from pathlib import Path

BUILT = Path(__file__).parents[1] / ".cache" / "guard"
