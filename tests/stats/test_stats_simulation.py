"""Simulated error rates: what every test and interval says about itself, over 2,000 studies of Gaussian runs each.

The seeds below were fixed before the first run. A rate passes when its nominal value lies inside
the exact 99.9 % binomial interval around it; where a method promises only an upper (or lower)
bound, when the bound is not contradicted by that interval. The rates are printed (pytest -s) and
recorded as properties of the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from harness import stats
from harness.stats.paired import FloatArray
from tests.intervals import rate_bounds, repeated_interval

STUDIES = 2000
SEED = 20_251_123
ALPHA = 0.05

Record = Callable[[str, object], None]
Bools = npt.NDArray[np.bool_]


def rate_interval(hits: Bools, what: str, record_property: Record) -> tuple[float, float]:
    """Print and record the rate; return its exact 99.9 % interval."""
    low, high = rate_bounds(int(hits.sum()), hits.size)
    record_property(what, float(hits.mean()))
    sys.stdout.write(
        f"\n  {what}: {hits.mean():.4f}, 99.9 % [{low:.4f}, {high:.4f}], n = {hits.size}"
    )
    return low, high


def paired_runs(
    rng: np.random.Generator, correlation: float, arms: int, seeds: int
) -> tuple[FloatArray, FloatArray]:
    """Null runs in pp: arms (studies, arms, seeds) and one baseline (studies, seeds), correlated through the seed."""
    shared = np.sqrt(correlation) * rng.standard_normal((STUDIES, 1, seeds))
    runs = shared + np.sqrt(1 - correlation) * rng.standard_normal((STUDIES, arms + 1, seeds))
    return 92.0 + 0.2 * runs[:, 1:], 92.0 + 0.2 * runs[:, 0]


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_paired_t_rejects_a_true_null_at_its_level(
    correlation: float, seeds: int, record_property: Record
) -> None:
    rng = np.random.default_rng([SEED, 1, seeds, int(10 * correlation)])
    arms, base = paired_runs(rng, correlation, 1, seeds)
    rejected = np.array(
        [stats.paired_t(arm[0], b).p < ALPHA for arm, b in zip(arms, base, strict=True)]
    )
    low, high = rate_interval(
        rejected, f"paired t, n = {seeds}, correlation {correlation}, type I", record_property
    )
    assert low <= ALPHA <= high


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_t_interval_covers_what_it_says(seeds: int, record_property: Record) -> None:
    rng = np.random.default_rng([SEED, 2, seeds])
    truth = 0.3
    found = [stats.one_sample_t(row) for row in truth + 0.2 * rng.standard_normal((STUDIES, seeds))]
    covered = np.array([one.low <= truth <= one.high for one in found])
    low, high = rate_interval(covered, f"t interval, n = {seeds}, coverage", record_property)
    assert low <= 1 - ALPHA <= high


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_holm_over_six_arms_with_one_baseline_keeps_the_family_wise_level(
    correlation: float, record_property: Record
) -> None:
    """One-sided: the arms share their baseline, which makes Holm conservative."""
    rng = np.random.default_rng([SEED, 3, int(10 * correlation)])
    arms, base = paired_runs(rng, correlation, 6, 10)
    any_rejected = np.array(
        [
            stats.holm([stats.paired_t(arm, b).p for arm in study]).min() < ALPHA
            for study, b in zip(arms, base, strict=True)
        ]
    )
    low, _ = rate_interval(
        any_rejected,
        f"Holm, 6 arms, correlation {correlation}, family-wise type I",
        record_property,
    )
    assert low <= ALPHA


def test_holm_over_independent_contrasts_is_at_the_family_wise_level(
    record_property: Record,
) -> None:
    """Over 6 independent nulls Holm's first step is 1 - (1 - .05 / 6)^6 = .0490: as near to .05 as it comes."""
    rng = np.random.default_rng([SEED, 4])
    contrasts = rng.standard_normal((STUDIES, 6, 8))
    any_rejected = np.array(
        [
            stats.holm([stats.one_sample_t(row).p for row in study]).min() < ALPHA
            for study in contrasts
        ]
    )
    low, high = rate_interval(
        any_rejected, "Holm, 6 independent contrasts, family-wise type I", record_property
    )
    assert low <= 1 - (1 - ALPHA / 6) ** 6 <= high


@pytest.mark.parametrize("looks", [(5, 10), (5, 10, 20)])
def test_the_looks_rule_rejects_a_true_null_at_its_level(
    looks: tuple[int, ...], record_property: Record
) -> None:
    """Each study stops at the first look at which its sequential p-value is at most alpha; nothing later is seen."""
    rng = np.random.default_rng([SEED, 5, *looks])
    rows = rng.standard_normal((STUDIES, looks[-1]))
    rejected = np.array(
        [
            any(
                stats.sequential_p(stats.look_statistics(row[:n], looks), looks) <= ALPHA
                for n in looks
            )
            for row in rows
        ]
    )
    low, high = rate_interval(rejected, f"looks {looks}, type I", record_property)
    assert low <= ALPHA <= high


def test_peeking_without_the_looks_rule_would_not_keep_the_level(record_property: Record) -> None:
    rng = np.random.default_rng([SEED, 6])
    rows = rng.standard_normal((STUDIES, 20))
    rejected = np.array(
        [min(stats.one_sample_t(row[:n]).p for n in (5, 10, 20)) < ALPHA for row in rows]
    )
    low, _ = rate_interval(rejected, "naive t test at 5, 10 and 20 seeds, type I", record_property)
    assert low > ALPHA


def test_stopping_early_for_another_reason_keeps_the_sequential_p_valid(
    record_property: Record,
) -> None:
    """One-sided: stopping at the first look whatever it shows wastes the level kept for the second."""
    rng = np.random.default_rng([SEED, 7])
    rows = rng.standard_normal((STUDIES, 5))
    rejected = np.array(
        [stats.sequential_p(stats.look_statistics(row, [5, 10]), [5, 10]) <= ALPHA for row in rows]
    )
    low, _ = rate_interval(rejected, "looks (5, 10), stopped at 5, type I", record_property)
    assert low <= ALPHA


@pytest.mark.parametrize("effect", [0.0, 0.3])
@pytest.mark.parametrize("looks", [(5, 10), (5, 10, 20)])
def test_repeated_intervals_cover_at_all_looks_together(
    looks: tuple[int, ...], effect: float, record_property: Record
) -> None:
    rng = np.random.default_rng([SEED, 8, int(10 * effect), *looks])
    rows = effect + 0.2 * rng.standard_normal((STUDIES, looks[-1]))

    def covers_everywhere(row: FloatArray) -> bool:
        bounds = [repeated_interval(row, looks, place) for place in range(len(looks))]
        return all(low <= effect <= high for low, high in bounds)

    covered = np.array([covers_everywhere(row) for row in rows])
    low, high = rate_interval(
        covered,
        f"repeated intervals, looks {looks}, effect {effect}, joint coverage",
        record_property,
    )
    assert low <= 1 - ALPHA <= high


def test_the_repeated_interval_covers_after_stopping(record_property: Record) -> None:
    """One-sided: only the interval of the look at which the rule stopped is reported, so it covers more often than 95 %."""
    looks, effect = (5, 10, 20), 0.2
    rng = np.random.default_rng([SEED, 9])
    rows = effect + 0.2 * rng.standard_normal((STUDIES, looks[-1]))

    def covers(row: FloatArray) -> bool:
        path = stats.look_statistics(row, looks)
        stopped = (i for i in range(3) if stats.sequential_p(path[: i + 1], looks) <= ALPHA)
        low, high = repeated_interval(row, looks, next(stopped, 2))
        return low <= effect <= high

    _, high = rate_interval(
        np.array([covers(row) for row in rows]),
        "repeated interval after stopping, coverage",
        record_property,
    )
    assert high >= 1 - ALPHA


def test_equivalence_is_declared_at_the_margin_at_its_level(record_property: Record) -> None:
    """The true difference is the margin itself, and the interval is narrow against it, so the level is met, not just kept."""
    rng = np.random.default_rng([SEED, 10])
    rows = 0.3 + 0.1 * rng.standard_normal((STUDIES, 10))
    declared = np.array([stats.tost(row, 0.3) < ALPHA for row in rows])
    low, high = rate_interval(declared, "TOST at the margin, size", record_property)
    assert low <= ALPHA <= high


@pytest.mark.parametrize("looks", [(5, 10), (5, 10, 20)])
def test_equivalence_over_looks_is_declared_at_the_margin_at_its_level(
    looks: tuple[int, ...], record_property: Record
) -> None:
    rng = np.random.default_rng([SEED, 11, *looks])
    rows = -0.3 + 0.1 * rng.standard_normal((STUDIES, looks[-1]))
    declared = np.array(
        [
            any(stats.sequential_tost(row[:n], 0.3, looks=looks) <= ALPHA for n in looks)
            for row in rows
        ]
    )
    low, high = rate_interval(
        declared, f"sequential TOST at the margin, looks {looks}, size", record_property
    )
    assert low <= ALPHA <= high


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 10), (0.5, 5)])
def test_planted_effects_are_found_as_often_as_the_plan_says(
    effect: float, seeds: int, record_property: Record
) -> None:
    rng = np.random.default_rng([SEED, 12, seeds])
    arms, base = paired_runs(rng, 0.5, 1, seeds)
    found = np.array(
        [stats.paired_t(arm[0] + effect, b).p < ALPHA for arm, b in zip(arms, base, strict=True)]
    )
    planned = stats.power(0.2, effect, n=seeds, correlation=0.5)
    low, high = rate_interval(
        found, f"effect {effect}, n = {seeds}, found (plan {planned:.4f})", record_property
    )
    assert low <= planned <= high


def test_planted_effects_are_found_over_looks_as_often_as_the_plan_says(
    record_property: Record,
) -> None:
    looks, effect = (5, 10), 0.2
    rng = np.random.default_rng([SEED, 13])
    arms, base = paired_runs(rng, 0.5, 1, 10)
    rows = arms[:, 0] + effect - base
    found = np.array(
        [stats.sequential_p(stats.look_statistics(row, looks), looks) <= ALPHA for row in rows]
    )
    planned = float(stats.sequential_power(0.2, effect, looks=looks, correlation=0.5)[-1])
    low, high = rate_interval(
        found, f"effect {effect}, looks {looks}, found (plan {planned:.4f})", record_property
    )
    assert low <= planned <= high


def test_the_variance_comparison_rejects_equal_variances_at_its_level(
    record_property: Record,
) -> None:
    rng = np.random.default_rng([SEED, 14])
    arms, base = paired_runs(rng, 0.7, 1, 8)
    rejected = np.array(
        [stats.variance_ratio_p(arm[0], b) < ALPHA for arm, b in zip(arms, base, strict=True)]
    )
    low, high = rate_interval(
        rejected, "Pitman-Morgan, n = 8, correlation 0.7, type I", record_property
    )
    assert low <= ALPHA <= high


def two_way_studies(
    rng: np.random.Generator, seeds: int, images: int, seed_sd: float, studies: int
) -> tuple[Callable[[int], tuple[Bools, Bools]], float]:
    """Draw studies of two arms on new seeds and new images, and the true difference over both populations.

    An image has one latent difficulty that both arms share and one liking for each arm; a run has a
    level of its own. A run is right when difficulty + liking + level + noise is above zero, all
    Gaussian, so the population accuracy is a normal cdf.
    """
    from scipy.special import ndtr

    liking_sd, noise_sd, advantage = 0.5, 0.5, 0.1
    image_SI = rng.standard_normal((studies, 1, images))
    liking_SI = liking_sd * rng.standard_normal((studies, 2, images))
    level = seed_sd * rng.standard_normal((studies, 2, seeds))
    total_sd = np.sqrt(1 + liking_sd**2 + seed_sd**2 + noise_sd**2)
    truth = float(ndtr((1 + advantage) / total_sd) - ndtr(1 / total_sd))

    def study(index: int) -> tuple[Bools, Bools]:
        score_ASI = (image_SI[index] + liking_SI[index])[:, None, :] + level[index][:, :, None]
        score_ASI = (
            score_ASI
            + np.array([1 + advantage, 1.0])[:, None, None]
            + noise_sd * rng.standard_normal((2, seeds, images))
        )
        return score_ASI[0] > 0, score_ASI[1] > 0

    return study, truth


@pytest.mark.parametrize(
    ("seeds", "seed_sd"), [(3, 0.1), (3, 0.5), (5, 0.0), (5, 0.2), (10, 0.05), (20, 0.05)]
)
def test_the_two_way_interval_covers_new_images_and_new_seeds(
    seeds: int, seed_sd: float, record_property: Record
) -> None:
    """One-sided: conservative where seeds hardly matter or are few."""
    rng = np.random.default_rng([SEED, 15, seeds, int(100 * seed_sd)])
    study, truth = two_way_studies(rng, seeds, 200, seed_sd, STUDIES)
    found = [stats.two_way_interval(*study(index)) for index in range(STUDIES)]
    covered = np.array([one.low <= truth <= one.high for one in found])
    _, high = rate_interval(
        covered, f"two-way, {seeds} seeds, seed sd {seed_sd}, coverage", record_property
    )
    assert high >= 1 - ALPHA


def test_the_two_way_interval_over_many_seeds_is_not_needlessly_wide(
    record_property: Record,
) -> None:
    rng = np.random.default_rng([SEED, 18])
    study, truth = two_way_studies(rng, 20, 200, 0.5, STUDIES)
    found = [stats.two_way_interval(*study(index)) for index in range(STUDIES)]
    covered = np.array([one.low <= truth <= one.high for one in found])
    low, high = rate_interval(covered, "two-way, 20 seeds, seed sd 0.5, coverage", record_property)
    assert low <= 1 - ALPHA <= high


def test_an_interval_over_seeds_alone_does_not_cover_new_images(record_property: Record) -> None:
    rng = np.random.default_rng([SEED, 16])
    study, truth = two_way_studies(rng, 20, 200, 0.05, 500)

    def covers(arm: Bools, base: Bools) -> bool:
        one = stats.paired_t(arm.mean(axis=1), base.mean(axis=1))
        return one.low <= truth <= one.high

    covered = np.array([covers(*study(index)) for index in range(500)])
    _, high = rate_interval(
        covered, "seeds-only interval for new images, 20 seeds, coverage", record_property
    )
    assert high < 1 - ALPHA


def test_the_bootstrap_interval_undercovers_at_five_seeds(record_property: Record) -> None:
    """Why it is a sensitivity figure and no verdict: 300 studies of 500 resamples show it."""
    rng = np.random.default_rng([SEED, 17])

    def covers(row: FloatArray) -> bool:
        low, high = stats.bootstrap_interval(row, rng, resamples=500)
        return low <= 0 <= high

    covered = np.array([covers(row) for row in rng.standard_normal((300, 5))])
    _, high = rate_interval(covered, "BCa bootstrap, 5 seeds, coverage", record_property)
    assert high < 1 - ALPHA
