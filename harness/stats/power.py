"""Plan before the first run: power, seeds needed, the smallest effect a plan can resolve.

The plan knows the sd of one arm between runs and guesses how strongly pairing by seed correlates
two arms; the sd of a paired difference follows: sd_difference = sd sqrt(2 (1 - correlation)). With
an observed sd of differences, pass it divided by sqrt(2) and correlation 0.
"""

from __future__ import annotations

from math import isfinite, isnan, sqrt

import numpy as np
from scipy.special import gammaincinv, nctdtr, ndtr, stdtrit

from harness.errors import UsageError
from harness.stats.paired import check_level, check_margin

# the normal approximation is exact long before; beyond it the question was wrong
_MOST_SEEDS = 10_000_000
# Gauss and Legendre's points for an average over the distribution of the sd: 128 of them give six
# digits and more.
_NODES_Q, _WEIGHTS_Q = (part / 2.0 for part in np.polynomial.legendre.leggauss(128))


def power(
    sd: float, effect: float, *, n: int, alpha: float = 0.05, correlation: float = 0.0
) -> float:
    """Chance that the two-sided paired t test over n seeds finds a true effect.

    Definition: P(|T| > t(1 - alpha/2, n - 1)), T non-central t on n - 1 degrees of freedom with
    non-centrality effect sqrt(n) / sd_difference. Exact for Gaussian runs. Source: Cohen (1988),
    Statistical Power Analysis, chapter 2. For a family of m arms under Holm, alpha / m gives a
    lower bound.

    Args:
        sd: between runs of one arm, above zero, in the unit of the effect.
        effect: true mean difference.
        n: seeds, at least 2.
        alpha: two-sided level.
        correlation: between an arm and its baseline over seeds, at least -1 and below 1.

    Raises:
        UsageError: an argument lies outside its range.
    """
    if n < 2:
        raise UsageError(f"a paired test over {n} seeds has no power", "plan at least 2 seeds")
    return _power(paired_sd(sd, correlation), effect, n, check_level(alpha))


def seeds_needed(
    sd: float, effect: float, *, alpha: float = 0.05, power: float = 0.8, correlation: float = 0.0
) -> int:
    """Smallest number of seeds at which the paired t test finds the effect with the wanted power (`power`'s definition).

    Args:
        sd: between runs of one arm, above zero, in the unit of the effect.
        effect: true mean difference to be found, not zero.
        alpha: two-sided level.
        power: wanted chance of finding it, between alpha and 1.
        correlation: between an arm and its baseline over seeds.

    Raises:
        UsageError: an argument lies outside its range, or the effect would take more than ten
            million seeds.
    """
    sd_difference = paired_sd(sd, correlation)
    _check_power(power, check_level(alpha))
    if not isfinite(effect) or effect == 0.0:
        raise UsageError(
            f"effect is {effect}, expected above 0: no number of seeds finds it",
            "ask for the smallest effect worth acting on",
        )
    few, many = 1, 2  # power grows with n: few is not enough (or 1), many is once the loop ends
    while _power(sd_difference, effect, many, alpha) < power:
        few, many = many, 2 * many
        if many > _MOST_SEEDS:
            raise UsageError(
                f"an effect of {effect} at sd {sd} would take millions of seeds",
                "ask for a larger effect",
            )
    while many - few > 1:
        middle = (few + many) // 2
        if _power(sd_difference, effect, middle, alpha) < power:
            few = middle
        else:
            many = middle
    return many


def detectable_effect(
    sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8, correlation: float = 0.0
) -> float:
    """Smallest true effect that n seeds find with the wanted power, in the unit of sd (`power`, solved for the effect).

    Raises:
        UsageError: an argument lies outside its range (`power`, `seeds_needed`).
    """
    # here because importing it takes as long as everything else in this package
    from scipy.optimize import brentq

    if n < 2:
        raise UsageError(f"a paired test over {n} seeds has no power", "plan at least 2 seeds")
    sd_difference = paired_sd(sd, correlation)
    _check_power(power, check_level(alpha))
    high = sd_difference
    while _power(sd_difference, high, n, alpha) < power:
        high *= 2.0
    return float(
        brentq(
            lambda effect: _power(sd_difference, effect, n, alpha) - power,
            0.0,
            high,
            xtol=1e-12 * high,
        )
    )


def chance_settled(
    sd: float,
    effect: float,
    *,
    n: int,
    margin: float,
    alpha: float = 0.05,
    correlation: float = 0.0,
) -> float:
    """Chance that n seeds end better, worse or equivalent: the union of the two-sided t test and of TOST.

    Definition: P(|T| > t(1 - alpha/2) or both one-sided t tests at alpha put the mean inside the
    margin), for Gaussian runs. Given the estimated sd the two regions are an inner and an outer
    range of the mean, so the chance is a difference of normal tails, averaged over the chi
    distribution of the sd (128-point Gauss-Legendre rule over its quantiles). Neither region alone
    gives it: at half the margin each test may fail where the other does not. For a family of m
    under Holm, alpha / m gives a lower bound.

    Args:
        sd: between runs of one arm, above zero, in the unit of the effect.
        effect: true mean difference.
        n: seeds, at least 2.
        margin: largest difference not worth acting on, above zero.
        alpha: level of both tests.
        correlation: between an arm and its baseline over seeds.

    Raises:
        UsageError: an argument lies outside its range.
    """
    if n < 2:
        raise UsageError(f"a paired test over {n} seeds settles nothing", "plan at least 2 seeds")
    check_margin(margin)
    return _settled(paired_sd(sd, correlation), effect, n, margin, check_level(alpha))


def seeds_to_settle(
    sd: float,
    effect: float,
    *,
    margin: float,
    alpha: float = 0.05,
    power: float = 0.8,
    correlation: float = 0.0,
) -> int:
    """Smallest number of seeds that settles a true effect with the wanted chance (`chance_settled`'s definition).

    Args:
        sd: between runs of one arm, above zero, in the unit of the effect.
        effect: true mean difference; zero is settled as equivalent.
        margin: largest difference not worth acting on, above zero.
        alpha: level of both tests.
        power: wanted chance, between alpha and 1.
        correlation: between an arm and its baseline over seeds.

    Raises:
        UsageError: an argument lies outside its range, or it would take more than ten million
            seeds.
    """
    spread = paired_sd(sd, correlation)
    check_margin(margin)
    _check_power(power, check_level(alpha))
    few, many = 1, 2
    while _settled(spread, effect, many, margin, alpha) < power:
        few, many = many, 2 * many
        if many > _MOST_SEEDS:
            raise UsageError(
                f"an effect of {effect} at sd {sd} would take millions of seeds",
                "ask for a wider margin",
            )
    while many - few > 1:
        middle = (few + many) // 2
        if _settled(spread, effect, middle, margin, alpha) < power:
            few = middle
        else:
            many = middle
    return many


def binomial_sd(accuracy: float, n_eval: int) -> float:
    """Expected sd of accuracy between runs of one recipe that differ in their seed alone, before any was trained.

    Definition: sqrt(err / (2 n_eval)), err = 1 - accuracy. Runs make nearly independent errors,
    image i with its own rate q_i, so the variance of accuracy is sum q_i (1 - q_i) / n_eval^2. Two
    runs of a calibrated ensemble disagree as often as one errs (Jiang et al. 2021); with two
    classes they disagree at rate 2 q (1 - q), which makes the mean of q (1 - q) err / 2. Source:
    Jordan (2023), arXiv 2304.01910, section on the binary case. Too low for short runs (16 epochs
    or fewer), whose errors move together; the caller must say so.

    Args:
        accuracy: expected, in [0, 1].
        n_eval: images it is measured on.

    Returns:
        The sd in [0, 1]; times 100 for percentage points.

    Raises:
        UsageError: accuracy lies outside 0 to 1, or there are no images.
    """
    if not 0.0 <= accuracy <= 1.0:
        raise UsageError(f"accuracy is {accuracy}, expected 0 to 1", "divide a percentage by 100")
    if n_eval < 1:
        raise UsageError(
            f"n_eval is {n_eval}, expected at least 1 image",
            "give the number of images that measure accuracy",
        )
    return sqrt((1.0 - accuracy) / (2.0 * n_eval))


def _power(sd_difference: float, effect: float, n: int, alpha: float) -> float:
    critical = -float(stdtrit(n - 1, alpha / 2))
    shift = abs(effect) * sqrt(n) / sd_difference
    # By symmetry both tails are lower tails; 1 - cdf of the upper one would lose digits where power
    # is small.
    right_side, wrong_side = (
        float(nctdtr(n - 1, -shift, -critical)),
        float(nctdtr(n - 1, shift, -critical)),
    )
    # scipy's series for the tail on the wrong side breaks down to nan, only where that tail is
    # below 1e-11 (checked on a grid).
    return min(1.0, right_side + (0.0 if isnan(wrong_side) else wrong_side))


def _settled(sd_difference: float, effect: float, n: int, margin: float, alpha: float) -> float:
    df, per_error = n - 1, sqrt(n) / sd_difference
    # The estimated sd over the true one, at the nodes: chi-square is a gamma variable.
    ratio_Q = np.sqrt(2.0 * gammaincinv(df / 2.0, _NODES_Q + 0.5) / df)
    outer_Q = -float(stdtrit(df, alpha / 2)) * ratio_Q
    inner_Q = np.maximum(margin * per_error + float(stdtrit(df, alpha)) * ratio_Q, 0.0)

    shift = abs(effect) * per_error
    outside_Q = ndtr(-outer_Q - shift) + ndtr(shift - outer_Q)
    inside_Q = ndtr(inner_Q - shift) - ndtr(-inner_Q - shift)
    chance_Q = np.where(inner_Q >= outer_Q, 1.0, outside_Q + inside_Q)
    return float(chance_Q @ _WEIGHTS_Q)


def paired_sd(sd: float, correlation: float) -> float:
    """Sd of a paired difference of two arms with this sd and correlation; UsageError when either makes no sense."""
    if not (isfinite(sd) and sd > 0):
        raise UsageError(
            f"sd is {sd}, expected a number above 0",
            "take it from a finished run, or from binomial_sd",
        )
    if not -1.0 <= correlation < 1.0:
        raise UsageError(
            f"correlation is {correlation}, expected -1 to below 1",
            "0 assumes that pairing gains nothing",
        )
    return sd * sqrt(2.0 * (1.0 - correlation))


def _check_power(value: float, alpha: float) -> None:
    if not alpha < value < 1.0:
        raise UsageError(
            f"power is {value}, expected a number between alpha ({alpha}) and 1", "0.8 is customary"
        )
