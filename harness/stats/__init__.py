"""Arrays in, intervals and p-values out.

The unit of analysis is the per-seed paired difference; every test and interval here is built on it. Each function states its
definition and its source. numpy and scipy only; whatever is random takes a Generator, save the null distributions of
`sequential`, which are tables computed once from a fixed one.

    paired       t intervals, paired t, equivalence (TOST), non-inferiority, comparison of two variances
    families     Holm, exact binomial intervals
    sequential   looks that were declared: boundary, p-values, repeated intervals, power, expected seeds
    contrasts    main effects, two-factor interactions and Shapley values, seed by seed
    power        seeds needed, power, smallest detectable effect, chance of ending settled
    images       intervals for new images as well as new seeds, the noise of few images
    curves       calibration error, onset of overfitting
    sensitivity  a second opinion: a bootstrap interval

Conventions: ``alpha`` is two-sided; a quantity that the data cannot give (one pair, a score that is not finite) is nan, never
an exception; an argument that cannot be (unequal lengths, a level outside 0 to 1) raises `harness.errors.UsageError`. Shape
suffixes: A arms, B bins, E epochs, I images, J looks, K factors, players or classes, M tests, N predictions, S seeds, T terms.
"""

from __future__ import annotations

from harness.stats.contrasts import contrast_signs, factorial_contrast, shapley
from harness.stats.curves import calibration_error, onset_epoch
from harness.stats.families import binomial_interval, holm
from harness.stats.images import TwoWay, image_variance, two_way_interval
from harness.stats.paired import (
    Mean,
    Paired,
    differences,
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
    repeated_interval,
    sequential_noninferiority,
    sequential_p,
    sequential_power,
    sequential_tost,
)

__all__ = [
    "Boundary",
    "Mean",
    "Paired",
    "TwoWay",
    "binomial_interval",
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
    "repeated_interval",
    "seeds_needed",
    "seeds_to_settle",
    "sequential_noninferiority",
    "sequential_p",
    "sequential_power",
    "sequential_tost",
    "shapley",
    "size_of",
    "tost",
    "two_way_interval",
    "variance_ratio_p",
    "zero_below",
]
