"""Arrays in, intervals and p-values out; every function states its definition and its source.

No trial, no study and no verdict: that is ``analysis``.
Start with ``paired``: every test and interval is built on the difference of a pair of one seed.
"""

from __future__ import annotations

from harness.stats.contrasts import contrast_signs, factorial_contrast, shapley
from harness.stats.curves import calibration_error, onset_epoch
from harness.stats.families import holm
from harness.stats.images import TwoWay, image_variance, two_way_interval
from harness.stats.paired import (
    Mean,
    Paired,
    differences,
    half_width,
    mean_interval,
    noninferiority,
    on_grid,
    one_sample_t,
    paired_t,
    size_of,
    tost,
    variance_ratio_p,
    zero_below,
)
from harness.stats.power import (
    binomial_sd,
    chance_settled,
    detectable_effect,
    power,
    seeds_needed,
    seeds_to_settle,
)
from harness.stats.sensitivity import bootstrap_interval
from harness.stats.sequential import (
    Boundary,
    boundary_levels,
    expected_seeds,
    level_at,
    look_statistics,
    sequential_lower_bound,
    sequential_noninferiority,
    sequential_p,
    sequential_power,
    sequential_tost,
)
from harness.stats.unpaired import RunGroup, Unpaired, group_of, welch_t, welch_tost

__all__ = [
    "Boundary",
    "Mean",
    "Paired",
    "RunGroup",
    "TwoWay",
    "Unpaired",
    "binomial_sd",
    "bootstrap_interval",
    "boundary_levels",
    "calibration_error",
    "chance_settled",
    "contrast_signs",
    "detectable_effect",
    "differences",
    "expected_seeds",
    "factorial_contrast",
    "group_of",
    "half_width",
    "holm",
    "image_variance",
    "level_at",
    "look_statistics",
    "mean_interval",
    "noninferiority",
    "on_grid",
    "one_sample_t",
    "onset_epoch",
    "paired_t",
    "power",
    "seeds_needed",
    "seeds_to_settle",
    "sequential_lower_bound",
    "sequential_noninferiority",
    "sequential_p",
    "sequential_power",
    "sequential_tost",
    "shapley",
    "size_of",
    "tost",
    "two_way_interval",
    "variance_ratio_p",
    "welch_t",
    "welch_tost",
    "zero_below",
]
