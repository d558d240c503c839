"""Verdicts over simulated studies: how often each falls, against the power that the plan prints.

Seeds were fixed before the first run. A rate must lie inside the exact 99.9 % binomial interval
around what it should be; where a rule only bounds a rate, inside the interval around the bound or
beyond it on the safe side. The rates are recorded as properties of the tests and printed (pytest
-s).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import analyze, judge
from harness.analysis.power_plan import plan_power
from harness.study.arms import arms
from tests.planted import planted, study_of

STUDIES, SEEDS, SD = 2000, 10, 0.2
EFFECTS = {"none": 0.0, "small": 0.2, "large": -0.5}
# pp: a margin that nothing is equivalent within, so that the verdict is that of the t test alone
NARROW = 0.001


def inside(count: int, rate: float, studies: int = STUDIES) -> bool:
    """Whether a count lies between the 0.05 % and 99.95 % points of its binomial distribution."""
    low, high = scipy_stats.binom.ppf([0.0005, 0.9995], studies, rate)
    return bool(low <= count <= high)


def differences(rng: np.random.Generator) -> dict[str, list[float]]:
    """One study's paired differences; the arms share their baseline."""
    base_S = SD * rng.standard_normal(SEEDS)
    return {
        name: (effect + SD * rng.standard_normal(SEEDS) - base_S).tolist()
        for name, effect in EFFECTS.items()
    }


Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Record a simulated rate and print it."""

    def told(sentence: str) -> None:
        record_property("rate", sentence)
        print(sentence)  # noqa: T201 - with -s these lines are the evidence

    return told


@pytest.mark.parametrize(("name", "verdict"), [("small", "better"), ("large", "worse")])
def test_the_verdict_on_one_arm_falls_as_often_as_the_plan_says(
    tell: Tell, name: str, verdict: str
) -> None:
    rng = np.random.default_rng(20261)
    plan = plan_power(study_of(name, seeds=SEEDS), effect=EFFECTS[name], sd=SD)
    counts = Counter[str](
        judge({name: differences(rng)[name]}, alpha=0.05, margin=NARROW)[name].verdict
        for _ in range(STUDIES)
    )
    tell(
        f"{name}: {verdict} in {counts[verdict] / STUDIES:.3f} of studies, planned {plan.power[0.0]:.3f}"
    )
    # the other tail of the two-sided test, which the plan's power includes, is below 1e-4 here
    assert inside(counts[verdict], plan.power[0.0] or 0.0)


def test_no_effect_is_called_one_at_the_level_of_the_test(tell: Tell) -> None:
    rng = np.random.default_rng(20262)
    counts = Counter[str](
        judge({"a": differences(rng)["none"]}, alpha=0.05, margin=NARROW)["a"].verdict
        for _ in range(STUDIES)
    )
    tell(
        f"no effect: better or worse in {(counts['better'] + counts['worse']) / STUDIES:.3f} of studies"
    )
    assert inside(counts["better"] + counts["worse"], 0.05)


def test_in_a_family_power_lies_between_the_plans_two_figures_and_false_alarms_below_alpha(
    tell: Tell,
) -> None:
    rng = np.random.default_rng(20263)
    plan = plan_power(study_of(*EFFECTS, seeds=SEEDS), effect=0.2, sd=SD)
    counts: Counter[tuple[str, str]] = Counter()
    for _ in range(STUDIES):
        found = judge(differences(rng), alpha=0.05, margin=NARROW)
        counts.update((name, judgement.verdict) for name, judgement in found.items())
    small = counts["small", "better"]
    tell(
        f"family: {small / STUDIES:.3f}, planned {plan.power_family[0.0]:.3f} to {plan.power[0.0]:.3f}"
    )
    least = scipy_stats.binom.ppf(0.0005, STUDIES, plan.power_family[0.0])
    most = scipy_stats.binom.ppf(0.9995, STUDIES, plan.power[0.0])
    assert least <= small <= most
    false = counts["none", "better"] + counts["none", "worse"]
    assert false <= scipy_stats.binom.ppf(0.9995, STUDIES, 0.05)


def test_equivalence_is_declared_as_often_as_two_one_sided_tests_allow(tell: Tell) -> None:
    rng = np.random.default_rng(20264)
    margin, at_margin, at_zero = 0.3, 0, 0
    for _ in range(STUDIES):
        drawn = np.array(differences(rng)["none"])
        at_zero += (
            judge({"a": drawn.tolist()}, alpha=0.05, margin=margin)["a"].verdict == "equivalent"
        )
        at_margin += (
            judge({"a": (drawn + margin).tolist()}, alpha=0.05, margin=margin)["a"].verdict
            == "equivalent"
        )
    # exact, by integrating the normal mean over the chi-square of the variance
    grid = (np.arange(4000) + 0.5) / 4000
    error = SD * sqrt(2 / SEEDS) * np.sqrt(scipy_stats.chi2.ppf(grid, SEEDS - 1) / (SEEDS - 1))
    room = np.maximum(0.0, margin - scipy_stats.t.ppf(0.95, SEEDS - 1) * error) / (
        SD * sqrt(2 / SEEDS)
    )
    expected = float(np.mean(2 * scipy_stats.norm.cdf(room) - 1))
    tell(
        f"equivalent: {at_zero / STUDIES:.3f} at zero (exact {expected:.3f}), {at_margin / STUDIES:.3f} at the margin"
    )
    assert inside(at_zero, expected)
    assert at_margin <= scipy_stats.binom.ppf(0.9995, STUDIES, 0.05)


def test_the_looks_rule_calls_no_effect_one_no_more_often_than_alpha(tell: Tell) -> None:
    rng = np.random.default_rng(20265)
    looks, wrong = (5, 10), 0
    for _ in range(STUDIES):
        drawn = differences(rng)["none"]
        verdicts = [
            judge({"a": drawn[:look]}, alpha=0.05, margin=NARROW, looks=looks)["a"].verdict
            for look in looks
        ]
        wrong += any(verdict in ("better", "worse") for verdict in verdicts)
    tell(f"looks 5, 10: {wrong / STUDIES:.3f} of studies without an effect find one")
    assert inside(wrong, 0.05)


def test_whole_analyses_agree_with_the_judgements_that_were_simulated() -> None:
    study = study_of(*EFFECTS, seeds=SEEDS)
    rng = np.random.default_rng(20266)
    for _ in range(25):
        trials = planted(study, EFFECTS, sd=SD, rng=rng)
        scores = {
            arm.name: [100 * t.metrics["accuracy"] for t in trials if t.recipe_id == arm.recipe.id]
            for arm in arms(study)
        }
        base = scores.pop("reference")
        family = {
            name: [a - b for a, b in zip(values, base, strict=True)]
            for name, values in scores.items()
        }
        expected = {
            name: judgement.verdict
            for name, judgement in judge(family, alpha=0.05, margin=0.3).items()
        }
        found = {
            e.term: e.verdict for e in analyze(study, trials).effects if e.metric == "accuracy"
        }
        assert found == expected
