"""Intervals that tests need and the program does not: exact ones for a rate, and those after stopping at a look."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binomtest

from harness import stats
from harness.stats.paired import FloatArray


def rate_bounds(hits: int, runs: int, *, level: float = 0.999) -> tuple[float, float]:
    """Return the exact two-sided interval (Clopper and Pearson) of a rate."""
    interval = binomtest(hits, runs).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def repeated_interval(
    differences_S: FloatArray | Sequence[float], looks: Sequence[int], look: int
) -> tuple[float, float]:
    """Return the t interval of the differences up to a look, by its place, at the level of that look."""
    alpha = stats.boundary_levels(looks)[look]
    result = stats.one_sample_t(differences_S[: looks[look]], alpha=alpha)
    return result.low, result.high
