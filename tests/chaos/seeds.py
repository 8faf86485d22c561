"""Chaos is drawn from seeds: one is tried in every test run, the others in the long form."""

import pytest

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.verify) for seed in range(1, 12))]
