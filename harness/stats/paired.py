"""Paired t tests, t intervals and equivalence over seeds.

Why a t interval and not a bootstrap: over 3, 5 and 10 seeds a nominal 95 % BCa interval covers far
less than 95 %, the t interval covers what it says (the simulations are in the tests). Why always
paired: the paired test keeps its level at any correlation between the two arms and costs little
power at none, whereas a test chosen by the observed correlation does not keep its level.

Conventions: ``alpha`` is two-sided; a quantity that the data cannot give (one pair, a score that is
not finite) is nan, never an exception; an argument that makes no sense (unequal lengths, a level outside
0 to 1) raises `harness.errors.UsageError`. Shape suffixes: A arms, B bins, E epochs, I images, J
looks, K factors, players or classes, M tests, N predictions, S seeds, T terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, fsum, inf, isfinite, isnan, ldexp, nan, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from harness.errors import UsageError

FloatArray = npt.NDArray[np.float64]

# Of the scale of the numbers that went in. A few operations err by some 1e-15 of it, a thousandth
# of this.
_GRID = 2.0**-42
_UNITLESS = 1e-12  # correlations, and shares of a variance


@dataclass(frozen=True, slots=True)
class Paired:
    """A mean of per-seed differences with its t interval.

    Attributes:
        n: pairs, one a seed.
        mean: of the differences, in the unit of the inputs.
        sd: of the differences, n - 1 in the denominator; nan for one pair.
        low: lower end of the two-sided 1 - alpha interval; nan for one pair.
        high: upper end.
        p: two-sided, for a true mean of zero; nan for one pair.
        seed_correlation: Pearson's r between the two arms over seeds; nan below 3 pairs (two points always correlate
            perfectly), when one arm does not vary, or when only differences were given.
        pairing_gain: (var_a + var_b) / var_difference: how many times as many unpaired seeds this precision would take. inf
            when the differences do not vary but the scores do; nan when unknown.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    seed_correlation: float
    pairing_gain: float


class Mean(NamedTuple):
    """A mean with its sd (n - 1) and its two-sided t interval, in the unit of the inputs."""

    mean: float
    sd: float
    low: float
    high: float


def as_vector(values: npt.ArrayLike, name: str) -> FloatArray:
    """Values as a float64 vector; UsageError when they have another number of dimensions or are not numbers."""
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} are not numbers", "pass a flat sequence of floats") from error
    if vector.ndim != 1:
        raise UsageError(
            f"{name} have {vector.ndim} dimensions, expected 1", "pass one value a seed"
        )
    return vector


def check_level(value: float, name: str = "alpha") -> float:
    """The level itself; UsageError when it is not strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"{name} is {value}, expected a number between 0 and 1", f"{name} = 0.05 means 5 %"
        )
    return float(value)


def size_of(*arrays: FloatArray) -> float:
    """The largest magnitude among the numbers of some arrays, 0 without any: the scale that their rounding is relative to."""
    return max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)


def on_grid(values: npt.ArrayLike, scale: float) -> FloatArray:
    """Values without their rounding noise: the one rule by which a number counts as zero, or as equal to another.

    What is zero or equal on paper comes out some units in the last place off (0.3 - 0.2 is not
    0.1), by how much depends on the order in which the processor adds. Written with six digits, or
    tested, those crumbs would pass for results. Hence:

    - A difference or contrast of scores is rounded to a multiple of 2^-42 (2e-13) of the scale of
      the scores, itself rounded up to a power of two. So ties are ties, equal differences are
      equal, and their sums are exact in any order.
    - A mean, an sd, an end of an interval, or a distance from the margin below that of its scale is
      zero.
    - A correlation within 1e-12 of 0, 1 or -1 is that, or within what rounding does to it where
      scores hardly vary.
    - Sums are taken with `math.fsum`, which rounds once, whatever the processor.

    Everything is relative to the scores, so losses of 1e-5 keep their digits. P-values are left
    alone: what they are computed from has been rounded, and one of 1e-30 is a result.

    Args:
        values: of any shape; what is not finite stays.
        scale: size of the numbers that were added and subtracted, in their unit.
    """
    array = np.asarray(values, dtype=np.float64)
    step = ldexp(_GRID, frexp(scale)[1]) if isfinite(scale) else 0.0
    # A step that underflows, or numbers near the largest float, have no grid.
    if not step > 0.0 or scale > 1e290:
        return array
    return np.rint(array / step) * step + 0.0  # no minus zero


def zero_below(value: float, scale: float) -> float:
    """The value, or 0 where it is no more than the rounding of numbers of this scale (`on_grid`)."""
    return 0.0 if abs(value) <= _GRID * scale else value


def differences(scores_S: npt.ArrayLike, baseline_S: npt.ArrayLike) -> FloatArray:
    """Scores minus baseline scores, shape (S,), in their unit, without rounding noise (`on_grid`).

    Raises:
        UsageError: the two differ in length or are not flat.
    """
    arm_S, base_S = as_vector(scores_S, "scores"), as_vector(baseline_S, "baseline scores")
    if arm_S.size != base_S.size:
        raise UsageError(
            f"{arm_S.size} scores do not pair with {base_S.size} baseline scores",
            "keep only the seeds that both arms finished",
        )
    return on_grid(arm_S - base_S, size_of(arm_S, base_S))


def moments(differences_S: FloatArray, *, scale: float | None = None) -> tuple[float, float]:
    """Mean and sd of the differences, with what is only rounding set to zero (`on_grid`).

    Args:
        differences_S: any number of differences.
        scale: size of the numbers that were subtracted; rounding is relative to it. Default: the
            largest difference.
    """
    n = differences_S.size
    if n == 0 or not bool(np.isfinite(differences_S).all()):
        return nan, nan
    largest = size_of(differences_S)
    scale = largest if scale is None else scale
    # Shrunk to about 1 first, by a power of two and thus exactly, so that no square underflows or
    # overflows.
    unit = ldexp(1.0, frexp(largest)[1] - 1) if largest else 1.0
    values = (differences_S / unit).tolist()
    mean = fsum(values) / n
    sd = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else nan
    return zero_below(mean * unit, scale), zero_below(sd * unit, scale)


def t_statistic(mean: float, sd: float, n: int) -> float:
    """Student's t for a true mean of zero.

    With no variance at all it is the limit: 0 for a mean of zero, else plus or minus infinity.
    """
    if isnan(sd) or isnan(mean):
        return nan
    if sd == 0.0:
        return 0.0 if mean == 0.0 else (inf if mean > 0 else -inf)
    return mean / (sd / sqrt(n))


def two_sided_p(t: float, df: float) -> float:
    """Two-sided p of a t statistic on df degrees of freedom."""
    return nan if isnan(t) else min(1.0, 2.0 * float(stdtr(df, -abs(t))))


def half_width(sd: float, n: int, alpha: float) -> float:
    """Half the width of a two-sided 1 - alpha t interval for a mean of n values."""
    return nan if isnan(sd) else -float(stdtrit(n - 1, alpha / 2)) * sd / sqrt(n)


def paired_t(scores_S: npt.ArrayLike, baseline_S: npt.ArrayLike, *, alpha: float = 0.05) -> Paired:
    """Student's paired t test of an arm against its baseline, with a two-sided 1 - alpha interval.

    Definition: d_s = scores_s - baseline_s; mean(d) +- t(1 - alpha/2, n - 1) sd(d) / sqrt(n); p
    from t = mean(d) sqrt(n) / sd(d).
    Source: Student (1908), The probable error of a mean, Biometrika 6.

    Differences that are all equal have sd 0 and an interval of no width: p is 1 when they are zero
    (the arms tie on every seed) and 0 otherwise, the limit of the test as the variance goes to
    zero. On a coarse metric with few seeds that happens by chance, so a caller who sees sd 0 should
    say so.

    Args:
        scores_S: the arm, one value a seed.
        baseline_S: the baseline on the same seeds in the same order, same unit.
        alpha: level of the interval.

    Raises:
        UsageError: the two differ in length or are not flat, or alpha is no level.
    """
    check_level(alpha)
    arm_S, base_S = as_vector(scores_S, "scores"), as_vector(baseline_S, "baseline scores")
    differences_S = differences(arm_S, base_S)
    n = arm_S.size
    if not bool(np.isfinite(arm_S).all() and np.isfinite(base_S).all()):
        return Paired(n, nan, nan, nan, nan, nan, nan, nan)
    result = _summary(differences_S, alpha, size_of(arm_S, base_S))
    if n < 2:
        return result
    sd_a, sd_b = moments(arm_S)[1], moments(base_S)[1]
    return Paired(
        n,
        result.mean,
        result.sd,
        result.low,
        result.high,
        result.p,
        _correlation(arm_S, base_S) if sd_a > 0 and sd_b > 0 else nan,
        (sd_a / result.sd) ** 2 + (sd_b / result.sd) ** 2
        if result.sd > 0
        else (inf if sd_a + sd_b > 0 else nan),
    )


def one_sample_t(differences_S: npt.ArrayLike, *, alpha: float = 0.05) -> Paired:
    """The same test and interval from differences that were taken before: main effects, interactions, Shapley values.

    Args:
        differences_S: one contrast a seed, any unit.
        alpha: level of the interval.

    Returns:
        As `paired_t`; seed_correlation and pairing_gain are nan.

    Raises:
        UsageError: the differences are not flat, or alpha is no level.
    """
    check_level(alpha)
    return _summary(as_vector(differences_S, "differences"), alpha, None)


def mean_interval(scores_S: npt.ArrayLike, *, alpha: float = 0.05) -> Mean:
    """Mean, sd and two-sided 1 - alpha t interval of one arm's scores, in their unit; nan bounds below two seeds."""
    result = one_sample_t(scores_S, alpha=alpha)
    return Mean(result.mean, result.sd, result.low, result.high)


def tost(differences_S: npt.ArrayLike, margin: float) -> float:
    """P-value for equivalence within a margin: the larger of two one-sided t tests.

    Definition: max(P(T >= (mean + margin) / se), P(T <= (mean - margin) / se)) on n - 1 degrees of
    freedom; small means the true mean lies strictly inside (-margin, margin). Below alpha exactly
    when the 1 - 2 alpha t interval lies inside the margin.
    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15. Its level is alpha for a true mean on
    the margin (less when the interval is wide against the margin) and below it outside. Differences
    that are all equal give 0 inside the margin and 1 on or outside it.

    Args:
        differences_S: per-seed paired differences.
        margin: largest difference not worth acting on, same unit, above zero.

    Returns:
        The p-value; nan for fewer than two differences.

    Raises:
        UsageError: the margin is not above zero.
    """
    values_S = as_vector(differences_S, "differences")
    check_margin(margin)
    mean, sd = moments(values_S)
    n = values_S.size
    if sd == 0.0:
        return 0.0 if zero_below(margin - abs(mean), margin) > 0.0 else 1.0
    return max(
        upper_p(t_statistic(mean + margin, sd, n), n - 1),
        upper_p(t_statistic(margin - mean, sd, n), n - 1),
    )


def noninferiority(
    differences_S: npt.ArrayLike, margin: float, *, scale: float | None = None
) -> float:
    """P-value for a true mean above minus the margin: a loss, if there is one, that is smaller than the margin.

    Definition: P(T >= (mean + margin) / se) on n - 1 degrees of freedom, one-sided. Differences
    that are all equal have no variance to test with and give nan.
    Source: Wellek (2010), Testing Statistical Hypotheses of Equivalence and Noninferiority, chapter
    2.

    Args:
        differences_S: per-seed paired differences, more being better.
        margin: largest loss not worth acting on, same unit, above zero.
        scale: size of the scores that were subtracted; a spread below its rounding is none.

    Returns:
        The p-value; nan for fewer than two differences.

    Raises:
        UsageError: the margin is not above zero.
    """
    values_S = as_vector(differences_S, "differences")
    check_margin(margin)
    mean, sd = moments(values_S, scale=scale)
    if not sd > 0.0:
        return nan
    return upper_p(t_statistic(mean + margin, sd, values_S.size), values_S.size - 1)


def check_margin(margin: float) -> None:
    """UsageError unless the margin is a finite number above zero."""
    if not (isfinite(margin) and margin > 0):
        raise UsageError(
            f"margin is {margin}, expected a number above 0",
            "set margin_pp to the smallest difference worth acting on",
        )


def upper_p(t: float, df: float) -> float:
    """One-sided p of a t statistic: P(T >= t) on df degrees of freedom."""
    return nan if isnan(t) else float(stdtr(df, -t))


def variance_ratio_p(a_S: npt.ArrayLike, b_S: npt.ArrayLike) -> float:
    """Two-sided p-value for equal variances of two paired arms (the F test would need independent ones).

    Definition: the variances are equal exactly when a + b and a - b are uncorrelated; t test of
    that correlation, n - 2 degrees of freedom. Sources: Pitman (1939) and Morgan (1939), both
    Biometrika 31.

    Returns:
        The p-value; nan below three pairs. 1 when the difference or the sum does not vary, 0 when
        just one arm does not.

    Raises:
        UsageError: the two differ in length.
    """
    x_S, y_S = as_vector(a_S, "scores"), as_vector(b_S, "scores")
    if x_S.size != y_S.size:
        raise UsageError(
            f"{x_S.size} scores do not pair with {y_S.size}",
            "keep only the seeds that both arms finished",
        )
    if x_S.size < 3 or not bool(np.isfinite(x_S).all() and np.isfinite(y_S).all()):
        return nan
    scale = size_of(x_S, y_S)
    sums_S, differences_S = on_grid(x_S + y_S, scale), differences(x_S, y_S)
    if moments(sums_S, scale=scale)[1] == 0.0 or moments(differences_S, scale=scale)[1] == 0.0:
        return 1.0
    r = _correlation(sums_S, differences_S)
    df = x_S.size - 2
    return two_sided_p(inf if abs(r) >= 1.0 else r * sqrt(df / (1.0 - r * r)), df)


def _summary(differences_S: FloatArray, alpha: float, scale: float | None) -> Paired:
    n = differences_S.size
    mean, sd = moments(differences_S, scale=scale)
    half = half_width(sd, n, alpha)
    low, high = (
        zero_below(end, size_of(differences_S) if scale is None else scale)
        for end in (mean - half, mean + half)
    )
    return Paired(n, mean, sd, low, high, two_sided_p(t_statistic(mean, sd, n), n - 1), nan, nan)


def _correlation(a_S: FloatArray, b_S: FloatArray) -> float:
    if a_S.size < 3:
        return nan
    # Both in units of their largest deviation, before any product: tiny scores must not underflow.
    deviations = [array - moments(array)[0] for array in (a_S, b_S)]
    a, b = ((array / size_of(array)).tolist() for array in deviations)
    norms = sqrt(fsum(x * x for x in a)) * sqrt(fsum(y * y for y in b))
    r = fsum(x * y for x, y in zip(a, b, strict=True)) / norms

    # Scores that hardly vary have few digits left in their deviations, and so has their
    # correlation.
    noise = sum(
        2.0 * float(np.finfo(np.float64).eps) * size_of(x) / size_of(d)
        for x, d in zip((a_S, b_S), deviations, strict=True)
    )
    tolerance = max(_UNITLESS, noise)
    return 0.0 if abs(r) <= tolerance else float(np.sign(r)) if 1.0 - abs(r) <= tolerance else r
