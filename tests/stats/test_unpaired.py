"""Welch's test against scipy, and what it cannot give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import UsageError
from harness.stats import RunGroup, group_of, welch_t, welch_tost


def draws(seed: int, sizes: tuple[int, int]) -> tuple[list[float], list[float]]:
    draw = np.random.default_rng(seed)
    return list(draw.normal(90, 0.5, sizes[0])), list(draw.normal(90.4, 1.1, sizes[1]))


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12))
def test_the_test_and_its_interval_are_those_of_scipy(seed: int, n_a: int, n_b: int) -> None:
    one, other = draws(seed, (n_a, n_b))
    found = welch_t(group_of(one), group_of(other))
    expected = stats.ttest_ind(one, other, equal_var=False)
    interval = expected.confidence_interval(0.95)
    # a difference counts to 2^-42 of the scores, which are about 90
    assert (found.p, found.low, found.high, found.df) == pytest.approx(
        (expected.pvalue, interval.low, interval.high, expected.df), rel=1e-9, abs=1e-10
    )


def test_means_with_sd_and_n_give_what_their_runs_give() -> None:
    one, other = draws(3, (5, 9))
    stated = [RunGroup(len(x), float(np.mean(x)), float(np.std(x, ddof=1))) for x in (one, other)]
    expected = stats.ttest_ind_from_stats(
        stated[0].mean, stated[0].sd, 5, stated[1].mean, stated[1].sd, 9, equal_var=False
    )
    assert welch_t(*stated).p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("margin", [0.2, 1.0, 3.0])
def test_equivalence_is_the_larger_of_two_one_sided_tests(margin: float) -> None:
    one, other = draws(5, (8, 6))
    expected = max(
        stats.ttest_ind(np.add(one, margin), other, equal_var=False, alternative="greater").pvalue,
        stats.ttest_ind(
            np.subtract(one, margin), other, equal_var=False, alternative="less"
        ).pvalue,
    )
    found = welch_tost(welch_t(group_of(one), group_of(other)), margin)
    assert found == pytest.approx(expected, rel=1e-9)


def test_one_run_gives_a_difference_and_nothing_else() -> None:
    found = welch_t(group_of([91.0]), group_of([90.0, 90.5]))
    assert found.mean == pytest.approx(0.75)
    assert all(map(math.isnan, (found.low, found.high, found.p, welch_tost(found, 1.0))))


def test_groups_that_do_not_vary_have_no_p() -> None:
    found = welch_t(group_of([1.0, 1.0, 1.0]), group_of([0.5, 0.5, 0.5]))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert math.isnan(found.p)


def test_a_margin_that_is_not_above_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="margin"):
        welch_tost(welch_t(group_of([1.0, 2.0]), group_of([1.0, 3.0])), 0.0)
