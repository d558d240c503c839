"""Corrections for many tests, and exact intervals for counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from harness.errors import UsageError
from harness.stats.paired import FloatArray, as_vector, check_level


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's adjusted p-values: rejecting those below alpha keeps the chance of any false rejection below alpha.

    Definition: sorted upwards, p_(i) becomes max over j <= i of min(1, (m - j + 1) p_(j)), m the
    number of p-values that are not nan. Holds under any dependence, so arms may share their
    baseline. Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scand.
    J. Statist. 6.

    Args:
        p_values: shape (M,), one family. A nan (an arm without a test) stays nan and does not
            count.

    Returns:
        Adjusted p-values, shape (M,), in the order given.

    Raises:
        UsageError: a value lies outside 0 to 1.
    """
    p_M = as_vector(p_values, "p-values")
    tested_M = ~np.isnan(p_M)
    p = p_M[tested_M]
    if bool(((p < 0) | (p > 1)).any()):
        raise UsageError(
            "a p-value lies outside 0 to 1", "pass p-values, not statistics or percentages"
        )
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(p.size, 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    adjusted_M = np.full_like(p_M, np.nan)
    adjusted_M[tested_M] = adjusted
    return adjusted_M


def binomial_interval(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval for a proportion, from k successes in n.

    Definition: the proportions p for which neither P(X >= k) nor P(X <= k) is below (1 - level) /
    2, X binomial(n, p). Covers at least `level`, often more. Source: Clopper and Pearson (1934),
    Biometrika 26.

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        UsageError: n is below 1, k lies outside 0 to n, or the level outside 0 to 1.
    """
    check_level(level, "level")
    if n < 1 or not 0 <= k <= n:
        raise UsageError(
            f"{k} successes in {n} trials are impossible", "k must be from 0 to n, and n at least 1"
        )
    tail = (1.0 - level) / 2.0
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - tail))
    return low, high
