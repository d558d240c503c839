"""A second opinion on a paired difference, for the sensitivity section of a report and for nothing else.

No verdict comes from here: at few seeds it is worse than the t interval, and a method chosen after
seeing the data does not keep its level.
"""

from __future__ import annotations

from math import nan

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.stats.paired import as_vector, check_level, moments, on_grid, size_of


def bootstrap_interval(
    differences_S: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    alpha: float = 0.05,
    resamples: int = 9999,
) -> tuple[float, float]:
    """BCa bootstrap interval of the mean difference. A sensitivity figure only.

    A nominal 95 % interval of this kind covers 72, 82 and 90 % at 3, 5 and 10 seeds (2,000 Gaussian
    studies each, 999 resamples), so it is narrower than the truth allows. Source: Efron (1987),
    Better bootstrap confidence intervals, J. Am. Statist. Assoc. 82; computed by scipy.

    Args:
        differences_S: per-seed paired differences.
        rng: draws the resamples.
        alpha: level of the interval.
        resamples: bootstrap samples.

    Returns:
        Lower and upper end in the unit of the differences; nan below three differences; both the
        mean when they are all equal.

    Raises:
        UsageError: alpha is no level, or fewer than one resample.
    """
    check_level(alpha)
    if resamples < 1:
        raise UsageError(f"{resamples} resamples give no interval", "use some thousands")
    values_S = as_vector(differences_S, "differences")
    mean, sd = moments(values_S)
    if values_S.size < 3 or not sd >= 0.0:
        return nan, nan
    if sd == 0.0:
        return mean, mean
    from scipy.stats import bootstrap  # half a second to import, for one figure of one section

    found = bootstrap(
        (values_S,),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        confidence_level=1 - alpha,
        method="BCa",
        rng=rng,
    ).confidence_interval
    low, high = on_grid([found.low, found.high], size_of(values_S)).tolist()
    return low, high
