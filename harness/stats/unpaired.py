"""Differences between two groups of runs that share no seeds: Welch's t test, interval and equivalence.

For tables without seeds, and for arms whose seeds differ. Where runs can be paired, the paired
test is never worse in level and mostly far better in power.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import NamedTuple

import numpy.typing as npt
from scipy.special import stdtrit

from harness.stats.paired import (
    as_vector,
    check_level,
    check_margin,
    moments,
    on_grid,
    t_statistic,
    two_sided_p,
    upper_p,
    zero_below,
)


class RunGroup(NamedTuple):
    """The runs of one arm: how many, their mean and their sd (n - 1), both in one unit."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A difference of two means with its Welch interval.

    Attributes:
        n: runs of the smaller group.
        mean: first minus second.
        sd: of a difference of two single runs, sqrt(sd_a^2 + sd_b^2).
        se: standard error of the difference.
        df: Welch and Satterthwaite's degrees of freedom.
        low, high: ends of the two-sided 1 - alpha interval.
        p: two-sided, for equal means; nan where neither group varies.
    """

    n: int
    mean: float
    sd: float
    se: float
    df: float
    low: float
    high: float
    p: float


def group_of(scores_S: npt.ArrayLike) -> RunGroup:
    """Number, mean and sd of some runs; the sd of one run is nan."""
    values_S = as_vector(scores_S, "scores")
    mean, sd = moments(values_S)
    return RunGroup(values_S.size, mean, sd)


def welch_t(arm: RunGroup, baseline: RunGroup, *, alpha: float = 0.05) -> Unpaired:
    """Welch's t test of two independent groups, with a two-sided 1 - alpha interval.

    Definition: t = (mean_a - mean_b) / se with se^2 = sd_a^2 / n_a + sd_b^2 / n_b on
    se^4 / (sd_a^4 / (n_a^2 (n_a - 1)) + sd_b^4 / (n_b^2 (n_b - 1))) degrees of freedom.
    Source: Welch (1947), Biometrika 34; Satterthwaite (1946), Biometrics Bulletin 2.

    Args:
        arm: one group.
        baseline: the other, in the same unit.
        alpha: level of the interval.

    Returns:
        The difference; nan for what a group of one run cannot give.

    Raises:
        UsageError: alpha is no level.
    """
    check_level(alpha)
    n = min(arm.n, baseline.n)
    scale = max(abs(arm.mean), abs(baseline.mean)) if n else 0.0
    mean = float(on_grid(arm.mean - baseline.mean, scale)) if n else nan
    parts = [g.sd**2 / g.n if g.n > 1 else nan for g in (arm, baseline)]
    se = sqrt(parts[0] + parts[1]) if all(map(isfinite, parts)) else nan
    spread = sqrt(arm.sd**2 + baseline.sd**2) if isfinite(se) else nan
    if not se > 0.0:
        end = mean if se == 0.0 else nan
        return Unpaired(n, mean, spread, se, nan, end, end, nan)
    shares = zip(parts, (arm.n, baseline.n), strict=True)
    # scaled by the whole first, so that no square underflows
    df = 1.0 / sum((part / (se * se)) ** 2 / (size - 1) for part, size in shares)
    half = -float(stdtrit(df, alpha / 2)) * se
    p = two_sided_p(t_statistic(mean, se, 1), df)
    low, high = (zero_below(end, scale) for end in (mean - half, mean + half))
    return Unpaired(n, mean, spread, se, df, low, high, p)


def welch_tost(difference: Unpaired, margin: float) -> float:
    """P-value for equivalence within a margin of two independent groups: the larger of two one-sided Welch tests.

    Source: Schuirmann (1987), with Welch's standard error and degrees of freedom.

    Returns:
        The p-value; nan where the groups do not vary or hold one run.

    Raises:
        UsageError: the margin is not above zero.
    """
    check_margin(margin)
    if not difference.se > 0.0:
        return nan
    return max(
        upper_p((difference.mean + margin) / difference.se, difference.df),
        upper_p((margin - difference.mean) / difference.se, difference.df),
    )
