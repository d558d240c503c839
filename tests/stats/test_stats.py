"""Statistics against checked values, their definitions, scipy and statsmodels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from scipy import integrate
from scipy import stats as scipy_stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from harness import stats
from harness.errors import UsageError
from harness.stats.paired import FloatArray
from tests.intervals import repeated_interval

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "vectors.json").read_text()
)
BASELINE = VECTORS["scores"]["baseline"]
ARMS = [arm for arm in VECTORS["scores"] if arm != "baseline"]

# Accuracies in pp on a 0.01 grid: what the harness meets, and coarse enough for exact ties to turn
# up.
scores = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)


def vectors(least: int, most: int = 12) -> st.SearchStrategy[FloatArray]:
    return hnp.arrays(np.float64, st.integers(least, most), elements=scores)


def pairs(least: int, most: int = 12) -> st.SearchStrategy[tuple[FloatArray, FloatArray]]:
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float64, n, elements=scores), hnp.arrays(np.float64, n, elements=scores)
        )
    )


def gaussian(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape)


# Checked values. The file rounds to 6 places, so 1e-6 is as close as one can ask.


@pytest.mark.parametrize("arm", ARMS)
def test_the_paired_t_reproduces_the_checked_values(arm: str) -> None:
    expected = VECTORS["paired"][arm]
    got = stats.paired_t(VECTORS["scores"][arm], BASELINE, alpha=VECTORS["alpha"])
    assert got.n == expected["n"]
    assert_allclose(
        [got.mean, got.low, got.high, got.p, got.sd, got.seed_correlation, got.pairing_gain],
        [
            expected[key]
            for key in ("mean", "lo", "hi", "p", "sd_diff", "seed_corr", "pairing_gain")
        ],
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("arm", ARMS)
def test_equivalence_reproduces_the_checked_values(arm: str) -> None:
    differences = np.subtract(VECTORS["scores"][arm], BASELINE)
    assert stats.tost(differences, VECTORS["margin_pp"]) == pytest.approx(
        VECTORS["paired"][arm]["p_equiv"], abs=1e-6
    )


def test_holm_reproduces_the_checked_values() -> None:
    p_values = [stats.paired_t(VECTORS["scores"][arm], BASELINE).p for arm in ARMS]
    assert_allclose(
        stats.holm(p_values), [VECTORS["paired"][arm]["p_holm"] for arm in ARMS], atol=1e-8, rtol=0
    )


def test_shapley_reproduces_the_checked_values() -> None:
    vector = VECTORS["shapley"]
    values = {
        frozenset(int(player) for player in key): [value] for key, value in vector["values"].items()
    }
    assert_allclose(stats.shapley(values, vector["players"])[:, 0], vector["expected"], atol=1e-6)


@pytest.mark.parametrize(
    ("key", "seeds"), VECTORS["seeds_for_80_percent_power_alpha_05_rho_0"].items()
)
def test_the_seeds_needed_reproduce_the_checked_values(key: str, seeds: int) -> None:
    sd, effect = (float(part.partition("=")[2]) for part in key.split(","))
    assert stats.seeds_needed(sd, effect) == seeds


# Paired t.


@given(pairs(2), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_paired_t_equals_scipys(pair: tuple[FloatArray, FloatArray], alpha: float) -> None:
    got = stats.paired_t(*pair, alpha=alpha)
    if got.sd == 0:  # scipy warns here; the cases have tests of their own
        return
    expected = scipy_stats.ttest_rel(*pair)
    interval = expected.confidence_interval(1 - alpha)
    assert_allclose(
        [got.p, got.low, got.high],
        [expected.pvalue, interval.low, interval.high],
        rtol=1e-9,
        atol=1e-9,
    )


@given(pairs(2), st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_changes_nothing_in_a_paired_t(
    pair: tuple[FloatArray, FloatArray], random: Any
) -> None:
    order = list(range(pair[0].size))
    random.shuffle(order)
    assert_same(stats.paired_t(pair[0][order], pair[1][order]), stats.paired_t(*pair))


@given(pairs(2), st.sampled_from([0.01, 3.0, 100.0]))
def test_a_change_of_unit_scales_the_interval_and_leaves_p(
    pair: tuple[FloatArray, FloatArray], factor: float
) -> None:
    before, after = stats.paired_t(*pair), stats.paired_t(pair[0] * factor, pair[1] * factor)
    assert_allclose(
        [after.mean, after.sd, after.low, after.high, after.p],
        [
            before.mean * factor,
            before.sd * factor,
            before.low * factor,
            before.high * factor,
            before.p,
        ],
        rtol=1e-7,
        atol=1e-9 * factor,
    )


@given(pairs(2))
def test_swapping_arm_and_baseline_mirrors_the_interval(
    pair: tuple[FloatArray, FloatArray],
) -> None:
    there, back = stats.paired_t(*pair), stats.paired_t(pair[1], pair[0])
    assert_allclose(
        [back.mean, back.low, back.high, back.p],
        [-there.mean, -there.high, -there.low, there.p],
        atol=1e-12,
    )


@given(pairs(3))
def test_the_interval_excludes_zero_exactly_when_p_is_below_alpha(
    pair: tuple[FloatArray, FloatArray],
) -> None:
    got = stats.paired_t(*pair)
    if abs(got.p - 0.05) > 1e-9:
        assert (got.p < 0.05) == (got.low > 0 or got.high < 0)


def test_the_seed_correlation_is_pearsons() -> None:
    a, b = gaussian(1, 2, 9)
    assert stats.paired_t(a, b).seed_correlation == pytest.approx(float(np.corrcoef(a, b)[0, 1]))


def test_the_pairing_gain_is_one_for_uncorrelated_arms() -> None:
    assert stats.paired_t([1, -1, 1, -1], [1, 1, -1, -1]).pairing_gain == pytest.approx(1.0)


def test_one_sample_t_is_the_paired_t_of_the_same_differences() -> None:
    a, b = gaussian(2, 2, 7)
    one, two = stats.one_sample_t(a - b, alpha=0.1), stats.paired_t(a, b, alpha=0.1)
    assert_allclose(
        [one.mean, one.sd, one.low, one.high, one.p], [two.mean, two.sd, two.low, two.high, two.p]
    )
    assert math.isnan(one.seed_correlation)
    assert math.isnan(one.pairing_gain)


def test_a_single_pair_has_a_mean_and_nothing_else() -> None:
    got = stats.paired_t([92.0], [91.0])
    assert (got.n, got.mean) == (1, 1.0)
    assert all(
        math.isnan(value)
        for value in (got.sd, got.low, got.high, got.p, got.seed_correlation, got.pairing_gain)
    )


def test_no_pair_at_all_gives_nan_and_no_error() -> None:
    got = stats.paired_t([], [])
    assert got.n == 0
    assert math.isnan(got.mean)


def test_two_pairs_have_no_seed_correlation() -> None:
    assert math.isnan(stats.paired_t([1.0, 2.0], [1.5, 2.0]).seed_correlation)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_makes_every_figure_nan(bad: float) -> None:
    got = stats.paired_t([1.0, bad, 3.0], [1.0, 2.0, 2.0])
    assert all(math.isnan(value) for value in (got.mean, got.sd, got.low, got.high, got.p))


def test_an_arm_that_ties_on_every_seed_has_p_one() -> None:
    got = stats.paired_t(BASELINE, BASELINE)
    assert (got.mean, got.sd, got.low, got.high, got.p, got.pairing_gain) == (
        0.0,
        0.0,
        0.0,
        0.0,
        1.0,
        math.inf,
    )


def test_differences_that_are_equal_but_for_rounding_count_as_equal() -> None:
    base = np.array([0.1, 0.2, 0.3, 0.7])
    got = stats.paired_t(base + 0.1, base)  # 0.1 + 0.2 - 0.2 is not 0.1 in binary
    assert (got.sd, got.p) == (0.0, 0.0)


def test_rounding_alone_is_never_an_effect() -> None:
    base = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    assert stats.paired_t(np.nextafter(base, 1.0), base).p == 1.0


def test_arms_without_any_variance_have_no_pairing_gain() -> None:
    assert math.isnan(stats.paired_t([0.5, 0.5], [0.5, 0.5]).pairing_gain)


@given(vectors(2))
def test_the_mean_interval_is_scipys(values: FloatArray) -> None:
    got = stats.mean_interval(values, alpha=0.1)
    if got.sd > 0:
        low, high = scipy_stats.t.interval(
            0.9, values.size - 1, values.mean(), scipy_stats.sem(values)
        )
        assert_allclose(got, [values.mean(), values.std(ddof=1), low, high], rtol=1e-9)


# Equivalence and variances.


@given(pairs(2), st.floats(0.05, 5.0))
def test_equivalence_equals_statsmodels(pair: tuple[FloatArray, FloatArray], margin: float) -> None:
    differences = pair[0] - pair[1]
    if stats.one_sample_t(differences).sd > 0:
        expected = ttost_paired(*pair, -margin, margin)[0]
        assert stats.tost(differences, margin) == pytest.approx(
            float(expected), rel=1e-9, abs=1e-12
        )


@given(vectors(3), st.floats(0.05, 50.0))
def test_equivalence_is_the_90_percent_interval_inside_the_margin(
    values: FloatArray, margin: float
) -> None:
    differences = values - 50.0
    inside = stats.one_sample_t(differences, alpha=0.1)
    p = stats.tost(differences, margin)
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (-margin < inside.low and inside.high < margin)


@pytest.mark.parametrize(("shift", "p"), [(0.1, 0.0), (0.3, 1.0), (-0.3, 1.0), (0.5, 1.0)])
def test_equal_differences_are_equivalent_only_inside_the_margin(shift: float, p: float) -> None:
    assert stats.tost([shift] * 5, 0.3) == p


def test_equivalence_of_one_pair_is_unknown() -> None:
    assert math.isnan(stats.tost([0.1], 0.3))


def test_the_variance_comparison_is_the_test_of_sum_against_difference() -> None:
    a, b = gaussian(3, 2, 12)
    a = 2 * a + b
    expected = scipy_stats.pearsonr(a + b, a - b).pvalue
    assert stats.variance_ratio_p(a, b) == pytest.approx(float(expected), rel=1e-9)


def test_the_variance_comparison_sees_that_one_arm_does_not_vary() -> None:
    assert stats.variance_ratio_p([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 4.0, 3.0]) == pytest.approx(0.0)


def test_arms_a_constant_apart_have_equal_variances() -> None:
    assert stats.variance_ratio_p([1.0, 2.0, 4.0], [2.0, 3.0, 5.0]) == 1.0


def test_two_pairs_cannot_compare_variances() -> None:
    assert math.isnan(stats.variance_ratio_p([1.0, 2.0], [2.0, 1.0]))


# Families and counts.


@settings(max_examples=20)  # statsmodels takes its time
@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_holm_equals_statsmodels(p_values: FloatArray) -> None:
    assert_allclose(stats.holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)


@given(
    hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)),
    st.randoms(use_true_random=False),
)
def test_holm_does_not_depend_on_the_order_of_the_arms(p_values: FloatArray, random: Any) -> None:
    order = list(range(p_values.size))
    random.shuffle(order)
    assert_allclose(stats.holm(p_values[order]), stats.holm(p_values)[order], rtol=0, atol=0)


def test_an_arm_without_a_p_value_stays_without_and_does_not_count() -> None:
    assert_allclose(stats.holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])


def test_holm_of_an_empty_family_is_empty() -> None:
    assert stats.holm([]).shape == (0,)


# Power.


@given(
    st.integers(2, 60),
    st.floats(0.05, 1.5),
    st.sampled_from([0.01, 0.05]),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_power_equals_statsmodels(n: int, effect: float, alpha: float, correlation: float) -> None:
    standardised = effect / math.sqrt(2 * (1 - correlation))
    expected = TTestPower().power(standardised, n, alpha, alternative="two-sided")
    # scipy's tail on the wrong side, which statsmodels adds, is nan where it is next to nothing
    if math.isnan(expected):
        expected = 1.0 - scipy_stats.nct.cdf(
            scipy_stats.t.isf(alpha / 2, n - 1), n - 1, standardised * math.sqrt(n)
        )
    assert stats.power(1.0, effect, n=n, alpha=alpha, correlation=correlation) == pytest.approx(
        float(expected), abs=1e-7
    )


def test_power_without_an_effect_is_alpha() -> None:
    assert stats.power(0.2, 0.0, n=8, alpha=0.03) == pytest.approx(0.03)


@given(st.floats(0.05, 2.0), st.floats(0.1, 3.0), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_seeds_needed_are_the_fewest_that_suffice(
    sd: float, effect: float, wanted: float
) -> None:
    seeds = stats.seeds_needed(sd, effect, power=wanted)
    assert stats.power(sd, effect, n=seeds) >= wanted
    assert seeds == 2 or stats.power(sd, effect, n=seeds - 1) < wanted


@given(st.integers(2, 40), st.sampled_from([0.8, 0.9]), st.sampled_from([0.0, 0.5]))
def test_the_detectable_effect_has_the_wanted_power(
    n: int, wanted: float, correlation: float
) -> None:
    effect = stats.detectable_effect(0.2, n, power=wanted, correlation=correlation)
    assert stats.power(0.2, effect, n=n, correlation=correlation) == pytest.approx(wanted, abs=1e-9)


def test_pairing_at_correlation_one_half_halves_the_variance() -> None:
    assert stats.seeds_needed(0.2, 0.2, correlation=0.5) == stats.seeds_needed(
        0.2 / math.sqrt(2), 0.2
    )


def test_a_minute_effect_is_refused_instead_of_searched_for_ever() -> None:
    with pytest.raises(UsageError, match="millions of seeds"):
        stats.seeds_needed(1.0, 1e-6)


def test_the_expected_sd_between_runs_is_the_stated_formula() -> None:
    assert stats.binomial_sd(0.92, 10_000) * 100 == pytest.approx(math.sqrt(0.08 / 20_000) * 100)


# Looks.


@pytest.mark.parametrize(
    ("looks", "critical"), [((2, 4), 2.178), ((2, 4, 6), 2.289), ((2, 4, 6, 8, 10), 2.413)]
)
def test_many_seeds_a_look_give_pococks_published_constants(
    looks: tuple[int, ...], critical: float
) -> None:
    """Pocock's table is for a known variance: 2,000 seeds a look are as good. 0.01 is three standard errors of simulation."""
    levels = stats.boundary_levels([look * 1000 for look in looks], boundary="pocock")
    assert_allclose(scipy_stats.norm.isf(np.array(levels) / 2), critical, atol=0.01)


@pytest.mark.parametrize("looks", [(2, 4), (2, 4, 6), (5, 10), (5, 10, 20)])
def test_many_seeds_a_look_give_wang_and_tsiatis_boundary_of_the_normal_integral(
    looks: tuple[int, ...],
) -> None:
    """With a known variance the looks are jointly normal: scipy integrates their density over the region that goes on."""
    levels = stats.boundary_levels([look * 1000 for look in looks])
    bounds_J = scipy_stats.norm.isf(np.array(levels) / 2)
    share_J = np.array(looks) / looks[-1]
    assert_allclose(bounds_J * share_J**0.25, bounds_J[-1])
    correlation_JJ = np.sqrt(
        np.minimum.outer(share_J, share_J) / np.maximum.outer(share_J, share_J)
    )
    joint = scipy_stats.multivariate_normal(np.zeros(len(looks)), correlation_JJ)
    goes_on = float(joint.cdf(bounds_J, lower_limit=-bounds_J))
    # three standard errors of simulation, and the t of 1,000 seeds
    assert 1 - goes_on == pytest.approx(0.05, abs=0.0015)


def test_wang_and_tsiatis_ask_for_more_at_the_first_look_and_less_at_the_last_than_pocock() -> None:
    ours, pocock = (
        stats.boundary_levels([5, 10], boundary=rule) for rule in ("wang-tsiatis", "pocock")
    )
    assert ours[0] < pocock[0] == pocock[1] < ours[1] < 0.05


def test_an_interval_between_looks_has_the_level_of_the_last_look_reached() -> None:
    first, last = stats.boundary_levels([5, 10])
    assert [stats.level_at(seeds, [5, 10]) for seeds in (3, 5, 9, 10)] == [
        first,
        first,
        first,
        last,
    ]


def test_one_look_is_the_plain_test() -> None:
    differences = gaussian(4, 8) + 0.5
    assert stats.boundary_levels([8]) == (0.05,)
    assert stats.sequential_p(stats.look_statistics(differences, [8]), [8]) == pytest.approx(
        stats.one_sample_t(differences).p
    )
    plain = stats.one_sample_t(differences)
    assert_allclose(repeated_interval(differences, [8], 0), (plain.low, plain.high))
    assert stats.sequential_tost(differences, 0.4, looks=[8]) == pytest.approx(
        stats.tost(differences, 0.4)
    )
    assert stats.sequential_noninferiority(differences, 0.4, looks=[8]) == pytest.approx(
        stats.noninferiority(differences, 0.4)
    )


def test_the_statistic_at_a_look_is_the_t_of_the_first_differences() -> None:
    differences = gaussian(5, 12)
    expected = [scipy_stats.ttest_1samp(differences[:n], 0.0).statistic for n in (5, 10)]
    assert_allclose(stats.look_statistics(differences, [5, 10, 20]), expected)


@given(vectors(10, 10), st.sampled_from([0.01, 0.05, 0.1]))
def test_the_sequential_p_is_at_most_alpha_exactly_when_the_rule_has_stopped(
    values: FloatArray, alpha: float
) -> None:
    looks, differences = [5, 10], values - 50.0
    path = stats.look_statistics(differences, looks)
    assume(not np.isnan(path).any())
    plain = [stats.one_sample_t(differences[:n]).p for n in looks]
    levels = stats.boundary_levels(looks, alpha=alpha)
    if min(abs(p - level) for p, level in zip(plain, levels, strict=True)) > 1e-9:
        stops = any(p <= level for p, level in zip(plain, levels, strict=True))
        assert (stats.sequential_p(path, looks) <= alpha) == stops


@given(vectors(10, 10), st.sampled_from([0, 1]))
def test_the_repeated_interval_excludes_zero_exactly_when_the_rule_stops_at_its_look(
    values: FloatArray, index: int
) -> None:
    looks, differences = [5, 10], values - 50.0
    low, high = repeated_interval(differences, looks, index)
    p = stats.one_sample_t(differences[: looks[index]]).p
    level = stats.boundary_levels(looks)[index]
    if abs(p - level) > 1e-9:
        assert (p < level) == (low > 0 or high < 0)


@given(vectors(20, 20))
def test_a_further_look_never_raises_the_sequential_p(values: FloatArray) -> None:
    looks = [5, 10, 20]
    path = stats.look_statistics(values - 50.0, looks)
    found = [stats.sequential_p(path[:reached], looks) for reached in (1, 2, 3)]
    assert found == sorted(found, reverse=True)


@given(st.floats(0.0, 60.0))
def test_the_sequential_p_lies_between_the_plain_p_and_booles_bound(t: float) -> None:
    plain = 2 * float(scipy_stats.t.sf(t, 4))
    assert (
        plain * (1 - 1e-9)
        <= stats.sequential_p([t], [5, 10, 20], boundary="pocock")
        <= min(1.0, 3 * plain) * (1 + 1e-9)
    )


def test_a_clear_effect_has_a_sequential_p_below_the_resolution_of_the_simulation() -> None:
    differences = 10.0 + 0.01 * gaussian(6, 10)
    assert 0 < stats.sequential_p(stats.look_statistics(differences, [5, 10]), [5, 10]) < 1e-9


@pytest.mark.parametrize("boundary", ["wang-tsiatis", "pocock"])
def test_looks_one_seed_apart_have_the_level_of_their_plain_simulation(
    boundary: stats.Boundary,
) -> None:
    """Paths drawn seed by seed instead of from sums: 100,000 of them put .05 within .0023 (three standard errors, and ours)."""
    rows = gaussian(19, 100_000, 6)
    levels = stats.boundary_levels([4, 5, 6], boundary=boundary)
    pairs = zip((4, 5, 6), levels, strict=True)
    stops = np.any(
        [scipy_stats.ttest_1samp(rows[:, :n], 0.0, axis=1).pvalue <= level for n, level in pairs],
        axis=0,
    )
    assert float(stops.mean()) == pytest.approx(0.05, abs=0.0023)


def test_without_a_complete_look_there_is_no_sequential_p() -> None:
    assert math.isnan(stats.sequential_p(stats.look_statistics([1.0, 2.0], [5, 10]), [5, 10]))
    assert math.isnan(stats.sequential_tost([1.0, 2.0], 0.3, looks=[5, 10]))


@given(vectors(10, 10), st.floats(0.1, 60.0))
def test_sequential_equivalence_costs_something_against_the_plain_test(
    values: FloatArray, margin: float
) -> None:
    differences = values - 50.0
    at_looks = [stats.tost(differences[:n], margin) for n in (5, 10)]
    both_sides = stats.sequential_tost(differences, margin, looks=[5, 10], boundary="pocock")
    if all(stats.one_sample_t(differences[:n]).sd > 0 for n in (5, 10)):
        assert both_sides <= min(1.0, 2 * min(at_looks)) * (1 + 1e-9)


def test_looks_find_an_effect_nearly_as_often_as_all_seeds_would() -> None:
    looks = stats.sequential_power(0.2, 0.3, looks=[5, 10])
    fixed = stats.power(0.2, 0.3, n=10)
    assert looks[0] < looks[1] < fixed
    assert looks[1] > fixed - 0.1


def test_sequential_power_without_an_effect_is_alpha() -> None:
    """The same paths make the boundary and count it, so only ties are left: one path in 400,000."""
    assert stats.sequential_power(0.2, 0.0, looks=[5, 10, 20])[-1] == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("effect", "margin"), [(0.0, None), (0.3, None), (0.0, 0.6), (0.5, 0.3)])
def test_the_expected_seeds_are_those_of_a_plain_simulation(
    effect: float, margin: float | None
) -> None:
    """Studies of 4, 6 or 9 seeds, sd of a difference 0.4; four standard errors of both simulations."""
    looks, studies = (4, 6, 9), 20_000 if margin is None else 4_000
    rows = effect + 0.4 * gaussian(23, studies, 9)
    taken = np.full(studies, 9)
    for look, level in reversed(list(zip(looks, stats.boundary_levels(looks), strict=True))):
        taken[scipy_stats.ttest_1samp(rows[:, :look], 0.0, axis=1).pvalue <= level] = look
        if margin is not None:
            equal = [stats.sequential_tost(row[:look], margin, looks=looks) <= 0.05 for row in rows]
            taken[np.array(equal)] = look
    expected = stats.expected_seeds(0.4 / math.sqrt(2), effect, looks=looks, margin=margin)
    assert taken.mean() == pytest.approx(expected, abs=4 * taken.std() / math.sqrt(studies) + 0.01)


@pytest.mark.parametrize(("seeds", "images"), [(3, 50), (8, 300)])
def test_quality_and_images_make_up_the_variance_between_seeds(seeds: int, images: int) -> None:
    rng = np.random.default_rng(31)
    right_SI = rng.random((seeds, images)) < rng.random(images) + 0.1 * rng.standard_normal(
        (seeds, 1)
    )
    result = stats.two_way_interval(right_SI, np.zeros((seeds, images)))
    total = right_SI.mean(axis=1).var(ddof=1)
    assert max(0.0, total - stats.image_variance(right_SI)) == pytest.approx(
        result.sd_seeds**2, abs=1e-12
    )


def test_the_part_of_the_images_is_that_of_runs_that_differ_in_their_errors_alone() -> None:
    """400 runs of one quality on images with rates of their own: all variance is sum q (1 - q) / I^2. Four standard errors."""
    rng = np.random.default_rng(32)
    rate_I = rng.random(500)
    right_SI = rng.random((400, 500)) < rate_I
    expected = float((rate_I * (1 - rate_I)).sum()) / 500**2
    assert stats.image_variance(right_SI) == pytest.approx(expected, rel=0.02)
    assert right_SI.mean(axis=1).var(ddof=1) == pytest.approx(expected, rel=4 * math.sqrt(2 / 399))


# Chance of ending settled, and non-inferiority.


@pytest.mark.parametrize(("effect", "n"), [(0.0, 5), (0.5, 8), (1.0, 8), (0.7, 12), (3.0, 3)])
def test_the_chance_of_ending_settled_is_the_integral_of_its_definition(
    effect: float, n: int
) -> None:
    """Margin 1, sd of a difference 1. By scipy: over the distribution of the sd, the mean outside or inside two bounds."""
    outer, inner = scipy_stats.t.ppf([0.975, 0.95], n - 1)
    error = 1 / math.sqrt(n)

    def given(sd: float) -> float:
        away, near = outer * sd * error, 1 - inner * sd * error
        mean = scipy_stats.norm(effect, error)
        if near >= away:
            return 1.0
        settled = mean.sf(away) + mean.cdf(-away)
        return float(settled + (mean.cdf(near) - mean.cdf(-near) if near > 0 else 0.0))

    spread = scipy_stats.chi(n - 1, scale=1 / math.sqrt(n - 1))
    cuts = [1 / (error * (inner + outer)), 1 / (error * inner)]  # where one of the two regions ends
    ends = [0.0, *sorted(cuts), max(cuts[1] * 1.01, 6.0)]
    expected = sum(
        integrate.quad(lambda sd: given(sd) * spread.pdf(sd), low, high, limit=200)[0]
        for low, high in pairwise(ends)
    )
    found = stats.chance_settled(1 / math.sqrt(2), effect, n=n, margin=1.0)
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("effect", [0.0, 0.3, 0.6, 0.9, 1.0, 1.5, 4.0])
def test_the_seeds_to_settle_are_the_fewest_that_do(effect: float) -> None:
    seeds = stats.seeds_to_settle(0.8, effect, margin=1.0, alpha=0.01)
    reached = [
        stats.chance_settled(0.8, effect, n=n, margin=1.0, alpha=0.01) >= 0.8
        for n in range(2, seeds + 1)
    ]
    assert reached == [False] * (seeds - 2) + [True]


def test_far_from_the_margin_settling_is_finding() -> None:
    assert stats.chance_settled(0.2, 0.5, n=8, margin=1e-9) == pytest.approx(
        stats.power(0.2, 0.5, n=8), abs=1e-5
    )


def test_half_the_margin_is_settled_more_often_than_either_test_alone_says() -> None:
    both = stats.chance_settled(0.5, 0.5, n=10, margin=1.0)
    assert both > stats.power(0.5, 0.5, n=10)


@given(vectors(3, 12), st.floats(0.1, 60.0))
def test_non_inferiority_is_scipys_one_sided_t_test_against_minus_the_margin(
    values: FloatArray, margin: float
) -> None:
    differences = values - 50.0
    if stats.one_sample_t(differences).sd > 1e-6:
        expected = scipy_stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        assert stats.noninferiority(differences, margin) == pytest.approx(
            expected, rel=1e-9, abs=1e-300
        )


def test_a_constant_difference_of_shares_has_no_variance_for_non_inferiority() -> None:
    a, b = np.array([231, 237, 242]) * 100 / 300, np.array([234, 240, 245]) * 100 / 300
    assert math.isnan(stats.noninferiority(a - b, 2.0, scale=100.0))


@given(vectors(10, 10), st.floats(0.1, 60.0))
def test_sequential_equivalence_is_non_inferiority_on_both_sides(
    values: FloatArray, margin: float
) -> None:
    differences, looks = values - 50.0, [5, 10]
    sides = [
        stats.sequential_noninferiority(side, margin, looks=looks)
        for side in (differences, -differences)
    ]
    assert stats.sequential_tost(differences, margin, looks=looks) == pytest.approx(
        max(sides), nan_ok=True
    )


@pytest.mark.parametrize("looks", [[10], [5, 10], [5, 10, 20]])
@pytest.mark.parametrize("boundary", ["wang-tsiatis", "pocock"])
def test_the_lower_bound_over_looks_is_the_margin_at_which_the_test_turns(
    looks: list[int], boundary: stats.Boundary
) -> None:
    differences = gaussian(11, 10) - 0.4
    bound = stats.sequential_lower_bound(differences, looks=looks, boundary=boundary)
    assert bound < differences.mean()
    inside, outside = (
        stats.sequential_noninferiority(differences, margin, looks=looks, boundary=boundary)
        for margin in (-bound + 1e-3, -bound - 1e-3)
    )
    assert inside < 0.05 < outside
    assert math.isnan(stats.sequential_lower_bound(differences[:3], looks=looks))


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_a_look_at_which_all_seeds_agree_is_no_evidence(first: float) -> None:
    looks, values = [3, 6], [first] * 3 + [-4.0, -3.0, -5.0]
    path = stats.look_statistics(values, looks)
    assert math.isnan(path[0])
    alone = stats.sequential_p(path, looks)
    assert alone > 0.05
    assert stats.sequential_tost(values, 1.0, looks=looks) > 0.5
    assert math.isnan(stats.sequential_tost(values[:3], 2.0, looks=looks))
    assert stats.sequential_lower_bound(values, looks=looks) < np.mean(values)
    assert math.isnan(stats.sequential_lower_bound(values[:3], looks=looks))


def test_the_null_distribution_of_the_looks_is_the_same_every_time() -> None:
    from harness.stats import sequential

    before = stats.boundary_levels([3, 6])
    for cached in (sequential._null_maxima, sequential._critical, sequential._levels):
        cached.cache_clear()
    assert stats.boundary_levels([3, 6]) == before


# Contrasts.

CUBE = np.array(list(product([0, 1], repeat=3)))


def test_a_main_effect_is_the_mean_with_less_the_mean_without() -> None:
    scores_AS = gaussian(7, 8, 4)
    effects = stats.factorial_contrast(scores_AS, CUBE)
    on = CUBE[:, 1] == 1
    assert_allclose(effects[(1,)], scores_AS[on].mean(axis=0) - scores_AS[~on].mean(axis=0))


def test_an_interaction_is_half_the_change_of_one_effect_by_the_other() -> None:
    scores_AS = gaussian(8, 8, 4)

    def effect(where: Any) -> FloatArray:
        on, off = where & (CUBE[:, 0] == 1), where & (CUBE[:, 0] == 0)
        return np.asarray(scores_AS[on].mean(axis=0) - scores_AS[off].mean(axis=0))

    expected = (effect(CUBE[:, 2] == 1) - effect(CUBE[:, 2] == 0)) / 2
    assert_allclose(stats.factorial_contrast(scores_AS, CUBE)[(0, 2)], expected)


def test_a_factor_that_does_nothing_has_an_effect_of_exactly_zero() -> None:
    scores_AS = np.repeat(gaussian(9, 4, 6) / 3, 2, axis=0)  # the last factor is the fastest
    assert not stats.factorial_contrast(scores_AS, CUBE)[(2,)].any()


def test_a_fraction_of_resolution_four_keeps_main_effects_clear() -> None:
    fraction = np.column_stack([CUBE, CUBE.sum(axis=1) % 2])
    truth = np.array([1.0, -2.0, 0.5, 0.25])
    effects = stats.factorial_contrast((fraction @ truth)[:, None], fraction)
    assert_allclose([effects[(k,)][0] for k in range(4)], truth)


def test_aliased_interactions_of_a_fraction_are_one_contrast() -> None:
    fraction = np.column_stack([CUBE, CUBE.sum(axis=1) % 2])
    effects = stats.factorial_contrast(gaussian(10, 8, 3), fraction)
    assert_allclose(np.abs(effects[(0, 1)]), np.abs(effects[(2, 3)]))


def test_a_fraction_of_resolution_three_is_refused() -> None:
    square = np.array(list(product([-1, 1], repeat=2)))
    with pytest.raises(UsageError, match="mixed with other terms"):
        stats.contrast_signs(np.column_stack([square, square.prod(axis=1)]))


@given(st.integers(1, 4), st.integers(0, 1000))
def test_shapley_is_the_mean_marginal_effect_over_all_orders(players: int, seed: int) -> None:
    values = {
        frozenset(np.flatnonzero(chosen).tolist()): gaussian(seed + 31 * index, 3)
        for index, chosen in enumerate(product([0, 1], repeat=players))
    }
    expected = np.zeros((players, 3))
    for order in permutations(range(players)):
        for position, player in enumerate(order):
            expected[player] += (
                values[frozenset(order[: position + 1])] - values[frozenset(order[:position])]
            )
    assert_allclose(stats.shapley(values, players), expected / math.factorial(players), atol=1e-12)


def test_shapley_values_add_up_to_everything_less_nothing() -> None:
    values = {
        frozenset(np.flatnonzero(row).tolist()): gaussian(index, 5)
        for index, row in enumerate(CUBE)
    }
    total = values[frozenset({0, 1, 2})] - values[frozenset()]
    assert_allclose(stats.shapley(values, 3).sum(axis=0), total)


def test_a_missing_set_of_components_is_named() -> None:
    with pytest.raises(UsageError, match=r"first \[1\]"):
        stats.shapley({frozenset(): [1.0], frozenset({0}): [1.0], frozenset({0, 1}): [1.0]}, 2)


# New images.


def test_the_two_way_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    """statsmodels' repeated-measures table tests images against the rest: F = MS_image / MS_rest."""
    import pandas as pd

    table = gaussian(11, 4, 6) + 2 * gaussian(12, 6)
    rows = [{"seed": s, "image": i, "y": table[s, i]} for s in range(4) for i in range(6)]
    f_image = float(
        AnovaRM(pd.DataFrame(rows), "y", "seed", within=["image"])
        .fit()
        .anova_table["F Value"]
        .iloc[0]
    )
    got = stats.two_way_interval(table, np.zeros_like(table))
    ms_image = 4 * float(((table.mean(axis=0) - table.mean()) ** 2).sum()) / 5
    assert got.sd_images**2 == pytest.approx(ms_image * (1 - 1 / f_image) / 4)


def test_without_variance_between_images_the_interval_is_the_one_over_seeds() -> None:
    per_seed = gaussian(13, 6)
    got = stats.two_way_interval(np.repeat(per_seed[:, None], 50, axis=1), np.zeros((6, 50)))
    plain = stats.mean_interval(per_seed)
    assert_allclose([got.mean, got.low, got.high], [plain.mean, plain.low, plain.high])


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 30))
def test_the_two_way_interval_is_never_narrower_than_the_one_over_seeds(
    seed: int, seeds: int, images: int
) -> None:
    arm, base = gaussian(seed, 2, seeds, images) > 0
    both, plain = (
        stats.two_way_interval(arm, base),
        stats.one_sample_t(arm.mean(axis=1) - base.mean(axis=1)),
    )
    assert both.high - both.low >= (plain.high - plain.low) * (1 - 1e-9)


def test_the_two_way_interval_takes_booleans() -> None:
    arm = gaussian(14, 5, 40) > -1
    base = gaussian(15, 5, 40) > -0.5
    assert stats.two_way_interval(arm, base) == stats.two_way_interval(
        arm.astype(float), base.astype(float)
    )


def test_arms_right_on_the_same_images_differ_by_exactly_nothing() -> None:
    arm = gaussian(16, 5, 40) > 0
    got = stats.two_way_interval(arm, arm)
    assert (got.mean, got.low, got.high) == (0.0, 0.0, 0.0)


def test_one_seed_has_no_interval_for_new_images() -> None:
    got = stats.two_way_interval(np.ones((1, 9)), np.zeros((1, 9)))
    assert got.mean == 1.0
    assert math.isnan(got.low)


@pytest.mark.parametrize("outcome", [np.ones((0, 5)), np.full((3, 5), math.nan)])
def test_outcomes_without_a_mean_have_no_interval_for_new_images(outcome: FloatArray) -> None:
    got = stats.two_way_interval(outcome, np.zeros_like(outcome))
    assert all(math.isnan(value) for value in (got.mean, got.low, got.high))


# Calibration and onset.


def test_the_calibration_error_of_one_bin_is_confidence_less_accuracy() -> None:
    assert stats.calibration_error([0.9, 0.8, 0.7], [1, 0, 1], bins=1) == pytest.approx(
        abs(0.8 - 2 / 3)
    )


def test_the_calibration_error_is_its_definition_over_equal_parts() -> None:
    rng = np.random.default_rng(17)
    confidence = rng.permutation(np.linspace(0.3, 0.99, 150))
    correct = rng.random(150) < confidence
    parts = np.array_split(np.argsort(confidence), 15)
    expected = np.mean([abs(confidence[part].mean() - correct[part].mean()) for part in parts])
    assert stats.calibration_error(confidence, correct) == pytest.approx(float(expected))


def test_probabilities_count_with_their_largest() -> None:
    probabilities = [[0.2, 0.8], [0.6, 0.4], [0.55, 0.45]]
    assert stats.calibration_error(probabilities, [1, 0, 1]) == stats.calibration_error(
        [0.8, 0.6, 0.55], [1, 0, 1]
    )


def test_no_predictions_have_no_calibration_error() -> None:
    assert math.isnan(stats.calibration_error([], []))


@given(
    st.lists(
        st.tuples(st.sampled_from([0.5, 0.75, 0.999, 1.0]), st.booleans()), min_size=1, max_size=60
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_predictions_changes_no_calibration_error(
    predictions: list[tuple[float, bool]], random: Any
) -> None:
    shuffled = predictions.copy()
    random.shuffle(shuffled)
    before, after = (
        stats.calibration_error(*zip(*rows, strict=True)) for rows in (predictions, shuffled)
    )
    assert after == pytest.approx(before, abs=1e-12)
    assert 0 <= after <= 1


def test_a_calibrated_forecast_has_no_calibration_error() -> None:
    assert stats.calibration_error(
        [0.75] * 4 + [0.5] * 4, [1, 1, 1, 0, 1, 0, 1, 0], bins=2
    ) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("losses", "onset"),
    [
        ([1.0, 0.8, 0.6, 0.5, 0.6, 0.7, 0.8], 3),
        ([1.0, 0.8, 0.6, 0.5, 0.4, 0.35, 0.3], None),
        ([1.0, 0.8, 0.6, 0.5, 0.5, 0.505, 0.509], None),  # rises by less than 2 %
        ([1.0, 0.8, 0.6, 0.5, 0.45, 0.44, 0.9], None),  # one odd last epoch
        ([1.0, 0.8, 0.1, 0.7, 0.6, 0.5, 0.4], None),  # one odd epoch on the way down
        ([0.5, 0.6, 0.7, 0.8], 0),
        ([1.0, 0.5], None),
        ([1.0, 0.8, 0.6, 0.5, 0.6, 0.7, 0.8, math.nan, 9.0], 3),
        ([], None),
    ],
)
def test_the_onset_is_where_the_smoothed_validation_loss_turns_up(
    losses: list[float], onset: int | None
) -> None:
    assert stats.onset_epoch(losses) == onset


@given(
    hnp.arrays(np.float64, st.integers(3, 40), elements=st.floats(0.01, 10)),
    st.sampled_from([0.5, 2.0, 8.0]),
)
def test_the_onset_does_not_depend_on_the_unit_of_the_loss(
    losses: FloatArray, factor: float
) -> None:
    assert stats.onset_epoch(losses * factor) == stats.onset_epoch(losses)


# Sensitivity.


def test_the_bootstrap_interval_repeats_with_its_generator() -> None:
    differences = gaussian(18, 10)
    first, second = (
        stats.bootstrap_interval(differences, np.random.default_rng(1)) for _ in range(2)
    )
    assert first == second
    assert first[0] < differences.mean() < first[1]


@given(vectors(0, 8))
def test_the_bootstrap_interval_holds_any_scores_without_a_warning(values: FloatArray) -> None:
    low, high = stats.bootstrap_interval(values, np.random.default_rng(2), resamples=200)
    assert math.isnan(low) == math.isnan(high) == (values.size < 3)


# Arguments that cannot be.


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.paired_t([1.0, 2.0], [1.0]),
        lambda: stats.paired_t([[1.0, 2.0]], [[1.0, 2.0]]),
        lambda: stats.paired_t(["a"], ["b"]),
        lambda: stats.paired_t([1.0], [1.0], alpha=5),
        lambda: stats.variance_ratio_p([1.0], [1.0, 2.0]),
        lambda: stats.tost([1.0, 2.0], 0.0),
        lambda: stats.tost([1.0, 2.0], math.nan),
        lambda: stats.holm([0.5, 1.5]),
        lambda: stats.power(0.2, 0.1, n=1),
        lambda: stats.power(0.0, 0.1, n=5),
        lambda: stats.power(0.2, 0.1, n=5, correlation=1.0),
        lambda: stats.seeds_needed(0.2, 0.0),
        lambda: stats.seeds_needed(0.2, 0.1, power=0.01),
        lambda: stats.detectable_effect(0.2, 1),
        lambda: stats.binomial_sd(92.0, 10_000),
        lambda: stats.binomial_sd(0.92, 0),
        lambda: stats.boundary_levels([10, 5]),
        lambda: stats.boundary_levels([1, 5]),
        lambda: stats.boundary_levels([]),
        lambda: stats.sequential_p([1.0, 2.0, 3.0], [5, 10]),
        lambda: stats.sequential_tost([1.0] * 7, -1.0, looks=[5]),
        lambda: stats.contrast_signs([[0, 2], [1, 0]]),
        lambda: stats.contrast_signs([[0, 1], [1, 1]]),
        lambda: stats.factorial_contrast(np.ones((3, 2)), CUBE),
        lambda: stats.shapley({}, 0),
        lambda: stats.shapley({frozenset(): [1.0], frozenset({0}): [1.0, 2.0]}, 1),
        lambda: stats.two_way_interval(np.ones((2, 3)), np.ones((2, 4))),
        lambda: stats.calibration_error([0.5], [1, 0]),
        lambda: stats.calibration_error([5.0], [1]),
        lambda: stats.calibration_error([0.5], [1], bins=0),
        lambda: stats.bootstrap_interval([1.0, 2.0, 3.0], np.random.default_rng(0), resamples=0),
    ],
)
def test_an_argument_that_cannot_be_gets_an_error_with_a_hint(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.hint


def assert_same(a: stats.Paired, b: stats.Paired) -> None:
    fields = ("n", "mean", "sd", "low", "high", "p", "seed_correlation", "pairing_gain")
    assert_allclose(
        [getattr(a, f) for f in fields], [getattr(b, f) for f in fields], rtol=1e-8, atol=1e-10
    )


# Counts of right answers, and how many there are: the scores of a table in pp, as a trial's are
# made.
COUNTS = st.sampled_from([300, 10_000]).flatmap(
    lambda images: st.tuples(
        st.just(images),
        st.lists(st.integers(0, images // 2), min_size=4, max_size=8),
        st.integers(-images // 4, images // 4),
    )
)


def in_pp(counts: list[int], images: int) -> list[float]:
    return [count / images * 100.0 for count in counts]


@given(COUNTS)
def test_scores_that_tie_or_differ_by_one_amount_have_no_variance(
    table: tuple[int, list[int], int],
) -> None:
    images, counts, shift = table
    base = in_pp([images // 4 + count for count in counts], images)
    arm = in_pp([images // 4 + count + shift for count in counts], images)
    found = stats.paired_t(arm, base)
    assert found.sd == 0.0
    assert len(set(stats.differences(arm, base).tolist())) == 1
    assert (found.mean == 0.0) == (shift == 0)
    assert found.low == found.mean == found.high


@given(COUNTS)
def test_gains_that_cancel_over_seeds_are_a_mean_of_zero(table: tuple[int, list[int], int]) -> None:
    images, counts, shift = table
    base = [images // 4 + count for count in counts + counts]
    arm = [count + (shift if place < len(counts) else -shift) for place, count in enumerate(base)]
    found = stats.paired_t(in_pp(arm, images), in_pp(base, images))
    assert (found.mean, found.p) == (0.0, 1.0)


@given(COUNTS)
def test_uncorrelated_scores_have_a_correlation_of_zero(table: tuple[int, list[int], int]) -> None:
    images, counts, shift = table
    shift = shift or 1
    base = [images // 4 + count for count in counts + counts]
    arm = [images // 2 + (shift if place < len(counts) else -shift) for place in range(len(base))]
    r = stats.paired_t(in_pp(arm, images), in_pp(base, images)).seed_correlation
    assert math.isnan(r) if len(set(counts)) == 1 else r == 0.0


@given(COUNTS)
def test_components_that_add_have_interactions_of_zero(table: tuple[int, list[int], int]) -> None:
    images, counts, shift = table
    levels = list(product([0, 1], repeat=2))
    base = [images // 4 + count for count in counts]
    rows = [
        [(count + (a + b) * (shift // 4)) / images * 100.0 for count in base] for a, b in levels
    ]
    assert stats.factorial_contrast(rows, levels)[0, 1].tolist() == [0.0] * len(counts)


@given(st.integers(-40, 6), COUNTS)
def test_the_grid_follows_the_scores_so_that_small_losses_keep_their_digits(
    power: int, table: tuple[int, list[int], int]
) -> None:
    _, counts, _ = table
    losses = np.array(counts) * 1.37 + np.arange(len(counts)) ** 2
    small, large = (
        stats.paired_t(losses * size, np.zeros(len(counts))) for size in (2.0**power, 1.0)
    )
    assert small.mean == large.mean * 2.0**power
    assert small.sd == large.sd * 2.0**power
    assert small.p == large.p


def test_a_tiny_p_value_that_is_real_stays() -> None:
    wave = np.sin(np.arange(40.0))
    expected = scipy_stats.ttest_rel(70 + wave, 60 + np.zeros(40)).pvalue
    assert expected < 1e-30
    assert stats.paired_t(70 + wave, 60 + np.zeros(40)).p == pytest.approx(
        float(expected), rel=1e-6
    )
