"""Means over seeds with their intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Scores = Mapping[tuple[str, int], Mapping[str, Mapping[str, float]]]
"""(cell, seed) -> guidance scale -> metric -> mean over images."""


class Interval(NamedTuple):
    """A mean over seeds and its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def interval(values: Sequence[float]) -> Interval:
    """Student's t; without bounds for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("-inf"), float("inf"))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return Interval(mean, mean - half, mean + half)
