"""Corrections for many tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.stats.paired import FloatArray, as_vector


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
    # equal p-values keep their order and get one adjusted value by the running maximum
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(p.size, 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    adjusted_M = np.full_like(p_M, np.nan)
    adjusted_M[tested_M] = adjusted
    return adjusted_M
