"""The numbers of an analysis against an independent computation, from the scores alone: scipy and statsmodels.

Scores are shares k/300 and k/10,000, as accuracies are, with ties and equal differences among them.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from harness.analysis import Analysis, Effect, analyze
from harness.study.arms import arms, switches
from harness.study.study import Study
from harness.study.trial import Trial
from tests.planted import study_of, switched, trial

MARGIN = 2.0  # pp
SEEDS = 8


def shares(
    study: Study, images: int, worth: dict[str, float], rng: int
) -> tuple[list[Trial], dict[str, list[float]]]:
    """Trials whose accuracies are shares k/images, and the same in pp by arm."""
    noise = np.random.default_rng([20261126, rng, images])
    scores: dict[str, list[float]] = {}
    trials = []
    for arm in arms(study):
        level = 0.6 + worth.get(arm.name, 0.0) / 100
        right = np.rint(images * (level + 0.01 * noise.standard_normal(study.seeds))).astype(int)
        scores[arm.name] = (100.0 * right / images).tolist()
        for seed, k in enumerate(right.tolist()):
            trials.append(
                trial(study, arm.name, seed, metrics={"accuracy": k / images, "gap": 0.1})
            )
    return trials, scores


def on(analysis: Analysis, kind: str) -> dict[str, Effect]:
    return {e.term: e for e in analysis.effects if (e.kind, e.metric) == (kind, "accuracy")}


def check_family(
    found: dict[str, Effect], values: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]
) -> None:
    """Every figure of a family of effects against scipy's and statsmodels' from its differences."""
    names = list(values)
    two_sided = [scipy_stats.ttest_1samp(values[name], 0.0) for name in names]
    adjusted = multipletests([test.pvalue for test in two_sided], method="holm")[1]
    low = [
        scipy_stats.ttest_1samp(values[name], -MARGIN, alternative="greater").pvalue
        for name in names
    ]
    high = [
        scipy_stats.ttest_1samp(values[name], MARGIN, alternative="less").pvalue for name in names
    ]
    equivalence = multipletests(np.maximum(low, high), method="holm")[1]
    for name, test, p_holm, p_equivalence in zip(
        names, two_sided, adjusted, equivalence, strict=True
    ):
        effect, bounds = found[name], test.confidence_interval(0.95)
        assert effect.estimate == pytest.approx(values[name].mean(), abs=1e-9)
        assert (effect.low, effect.high) == pytest.approx(
            (bounds.low, bounds.high), rel=1e-8, abs=1e-9
        )
        assert (effect.p, effect.p_holm, effect.p_equivalence) == pytest.approx(
            (test.pvalue, p_holm, p_equivalence), rel=1e-7
        )
        expected = "better" if values[name].mean() > 0 else "worse"
        expected = (
            "equivalent" if p_equivalence < 0.05 else expected if p_holm < 0.05 else "unresolved"
        )
        assert effect.verdict == expected


@pytest.mark.parametrize("images", [300, 10_000])
@pytest.mark.parametrize("rng", range(4))
def test_arms_match_an_independent_computation(images: int, rng: int) -> None:
    study = study_of("a", "b", "c", "d", seeds=SEEDS, margin_pp=MARGIN)
    trials, scores = shares(study, images, {"a": 3.0, "b": -2.5, "c": 1.0}, rng)
    base = np.array(scores.pop("reference"))
    check_family(
        on(analyze(study, trials), "arm"),
        {name: np.array(values) - base for name, values in scores.items()},
    )


@pytest.mark.parametrize("images", [300, 10_000])
def test_main_effects_and_interactions_match_an_independent_computation(images: int) -> None:
    study = switched("factorial", "a", "b", "c", seeds=SEEDS, margin_pp=MARGIN)
    trials, scores = shares(study, images, {"no-a": -2.0, "none": -2.0}, 5)
    states = switches(study, arms(study))
    names = [factor.name for factor in study.factors]
    table = np.array([scores[arm] for arm in states])
    signs = np.where(np.array(list(states.values())), 1, -1)
    mains = {name: signs[:, k] @ table / 4 for k, name in enumerate(names)}
    pairs = {
        f"{names[j]} x {names[k]}": (signs[:, j] * signs[:, k]) @ table / 4
        for j in range(3)
        for k in range(j + 1, 3)
    }
    analysis = analyze(study, trials)
    check_family(on(analysis, "main"), mains)
    check_family(on(analysis, "interaction"), pairs)


@pytest.mark.parametrize("images", [300, 10_000])
@pytest.mark.parametrize("design", ["arms", "factorial"])
def test_the_detectable_effect_is_statsmodels_power_of_the_judged_contrast_under_holm(
    images: int, design: str
) -> None:
    if design == "arms":
        study = study_of("a", "b", "c", seeds=SEEDS, margin_pp=MARGIN)
    else:
        study = switched("factorial", "a", "b", "c", seeds=SEEDS, margin_pp=MARGIN)
    analysis = analyze(study, shares(study, images, {}, 7)[0])
    family = list(on(analysis, "arm" if design == "arms" else "main").values())
    sd = sqrt(np.mean([np.var(e.differences, ddof=1) for e in family]))
    expected = sd * TTestPower().solve_power(
        nobs=SEEDS, alpha=0.05 / len(family), power=0.8, alternative="two-sided"
    )
    assert analysis.detectable_pp == pytest.approx(expected, rel=1e-4)


def test_the_seeds_to_settle_reach_four_in_five_by_plain_simulation() -> None:
    study = study_of("a", "b", seeds=SEEDS, margin_pp=MARGIN)
    for rng in range(20):
        analysis = analyze(study, shares(study, 300, {"a": 1.0, "b": 1.5}, rng)[0])
        for term, seeds in analysis.seeds_needed.items():
            effect = on(analysis, "arm")[term]
            drawn = np.random.default_rng([20261127, rng]).normal(
                effect.estimate,  # type: ignore[arg-type]
                effect.sd,  # type: ignore[arg-type]
                (4000, seeds),
            )
            found = scipy_stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.025
            above = (
                scipy_stats.ttest_1samp(drawn, -MARGIN, axis=1, alternative="greater").pvalue
                < 0.025
            )
            below = (
                scipy_stats.ttest_1samp(drawn, MARGIN, axis=1, alternative="less").pvalue < 0.025
            )
            settled = float((found | (above & below)).mean())
            # else it would have taken fewer than have left it unresolved
            few = seeds > effect.n + 1
            assert settled > 0.8 - 4 * sqrt(0.16 / 4000)
            assert settled < 0.9 or not few


def test_the_effect_at_the_margin_is_settled_by_finding_it() -> None:
    """Where equivalence cannot come, the seeds are those of the two-sided test alone."""
    from harness.stats import seeds_to_settle

    def short(n: float) -> float:
        return float(TTestPower().power(2.0, n, 0.05) - 0.8)

    assert seeds_to_settle(1 / sqrt(2), 2.0, margin=0.5) == int(
        np.ceil(optimize.brentq(short, 2.0, 50.0))
    )
