from __future__ import annotations

import importlib.util
import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.power_plan import plan_power
from harness.errors import UsageError
from harness.stats import (
    binomial_sd,
    detectable_effect,
    expected_seeds,
    power,
    seeds_needed,
    sequential_power,
)
from harness.study.arms import arms
from harness.study.profiles import PROFILES, observed
from harness.study.study import load_study
from tests.planted import planted, study_of, switched

ROOT = Path(__file__).parent.parent.parent
VECTORS = json.loads(
    (Path(__file__).parent.parent / "data" / "vectors.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("case", "seeds"), VECTORS["seeds_for_80_percent_power_alpha_05_rho_0"].items()
)
def test_the_plan_asks_for_the_seeds_of_the_tables(case: str, seeds: int) -> None:
    sd, effect = (float(part.split("=")[1]) for part in case.split(","))
    assert plan_power(study_of("a"), effect=effect, sd=sd).seeds_needed[0.0] == seeds


def test_the_wanted_effect_is_the_margin_unless_given() -> None:
    assert plan_power(study_of("a", margin_pp=0.7), sd=0.2).effect == pytest.approx(0.7)


def test_detectable_effect_and_power_are_given_at_both_correlations() -> None:
    plan = plan_power(study_of("a", seeds=6), effect=0.4, sd=0.2)
    for rho in (0.0, 0.5):
        assert plan.detectable[rho] == pytest.approx(detectable_effect(0.2, 6, correlation=rho))
        assert plan.power[rho] == pytest.approx(power(0.2, 0.4, n=6, correlation=rho))
        assert plan.seeds_needed[rho] == seeds_needed(0.2, 0.4, correlation=rho)


def test_power_within_a_family_is_that_of_the_first_step_of_holm() -> None:
    plan = plan_power(study_of("a", "b", "c"), effect=0.4, sd=0.2)
    assert plan.power_family[0.0] == pytest.approx(power(0.2, 0.4, n=10, alpha=0.05 / 3))


def test_with_looks_power_is_that_of_the_sequential_rule() -> None:
    plan = plan_power(study_of("a", looks=[5, 10]), effect=0.3, sd=0.2)
    assert plan.power[0.0] == pytest.approx(sequential_power(0.2, 0.3, looks=[5, 10])[-1])
    assert (plan.trials_first_look, plan.trials) == (10, 20)


def test_the_sd_comes_from_finished_trials_of_the_same_recipes() -> None:
    study = study_of("a", seeds=6)
    trials = planted(study, {"a": 5.0}, sd=0.7)
    plan = plan_power(
        study, finished=[*trials, *planted(study_of(base={"train.epochs": 3}), sd=9.0)]
    )
    values = {
        arm.name: [100 * t.metrics["accuracy"] for t in trials if t.recipe_id == arm.recipe.id]
        for arm in arms(study)
    }
    assert plan.sd == pytest.approx(sqrt(np.mean([np.var(v, ddof=1) for v in values.values()])))
    assert plan.source == "from 12 finished trials"


def test_two_finished_seeds_are_too_few_for_an_sd() -> None:
    study = study_of("a", seeds=2)
    assert "guessed from" in plan_power(study, finished=planted(study)).source


def test_without_trials_the_sd_is_the_binomial_one_and_says_so() -> None:
    plan = plan_power(study_of("a", base={"data.val": 2000}))
    assert plan.sd == pytest.approx(100 * binomial_sd(0.9, 2000))
    assert "2,000 validation images" in plan.caveats[0]


def test_short_runs_are_warned_of_when_the_sd_is_not_measured() -> None:
    assert any(
        "16 epochs" in caveat
        for caveat in plan_power(study_of("a", base={"train.epochs": 8})).caveats
    )


def test_a_metric_without_a_rule_of_thumb_says_that_nothing_is_known() -> None:
    plan = plan_power(study_of("a", metric="nll"))
    assert (plan.sd, plan.seeds_needed[0.0]) == (None, None)
    assert "nothing is known" in plan.finds()


def test_trials_are_counted_with_the_control_arm_and_timed() -> None:
    plan = plan_power(study_of("a", "b", seeds=4, control=True), sd=0.2, seconds_per_trial=3.0)
    assert (plan.trials, plan.seconds) == (16, 48.0)


def test_a_factorial_says_what_its_main_effects_can_find() -> None:
    plan = plan_power(switched("factorial", "a", "b", "c"), sd=0.2)
    # eight arms: half the sd of one paired difference
    expected = detectable_effect(0.2, 8, alpha=0.05 / 3) / 2
    assert (plan.contrast, plan.family) == ("main effect", 3)
    assert plan.detectable[0.0] == pytest.approx(expected)


def test_what_is_found_and_the_seeds_for_it_are_those_within_the_family() -> None:
    plan = plan_power(study_of("a", "b", "c", "d"), effect=0.4, sd=0.2)
    assert plan.detectable[0.5] == pytest.approx(
        detectable_effect(0.2, 10, alpha=0.05 / 4, correlation=0.5)
    )
    assert plan.seeds_needed[0.0] == seeds_needed(0.2, 0.4, alpha=0.05 / 4)


def test_with_looks_the_plan_says_how_many_seeds_an_arm_takes_on_average() -> None:
    study = study_of("a", looks=[5, 10], margin_pp=0.6)
    plan = plan_power(study, effect=0.5, sd=0.2)
    assert plan.expected_seeds[0.0] == pytest.approx(
        expected_seeds(0.2, 0.5, looks=[5, 10], margin=0.6)
    )
    assert 5 < (plan.expected_seeds_null[0.0] or 0.0) < 10
    assert plan_power(study_of("a", seeds=7), sd=0.2).expected_seeds[0.0] == 7


def test_the_boundary_of_a_study_is_that_of_its_power() -> None:
    plan = plan_power(study_of("a", looks=[5, 10], boundary="pocock"), effect=0.3, sd=0.2)
    assert plan.power[0.0] == pytest.approx(
        sequential_power(0.2, 0.3, looks=[5, 10], boundary="pocock")[-1]
    )


def test_a_profile_with_committed_reports_lends_its_sd_at_the_number_of_images_of_the_study() -> (
    None
):
    seen = observed("small")
    assert seen is not None
    study = load_study("dropout").under("small")
    for images in (1500, 10_000):
        base = {**study.base, "data.val": images}
        plan = plan_power(study.model_copy(update={"base": base}))
        quality = seen.sd**2 - seen.sd_images**2
        assert plan.sd == pytest.approx(sqrt(quality + seen.sd_images**2 * seen.images / images))
        assert "committed trials of profile small" in plan.source


def test_a_profile_without_committed_reports_says_that_there_are_no_runs() -> None:
    assert "no runs of profile full yet" in plan_power(load_study("dropout").under("full")).source


@pytest.mark.parametrize("other", [{"data.name": "digits"}, {"train.epochs": 3}])
def test_what_other_images_or_epochs_found_says_nothing_of_a_study(
    other: dict[str, object],
) -> None:
    plan = plan_power(load_study("dropout").under("small", overrides=other))
    assert "(no runs of profile small yet)" in plan.source


def test_the_images_at_hand_go_before_the_number_that_the_recipe_asks_for() -> None:
    plan = plan_power(study_of("a", base={"data.val": 2000}), images=500)
    assert plan.sd == pytest.approx(100 * binomial_sd(0.9, 500))
    assert "500 validation images" in plan.caveats[0]


def test_where_images_make_most_of_the_variance_the_plan_says_what_twice_as_many_would_save() -> (
    None
):
    study = load_study("dropout").under("small")
    few, many = (
        plan_power(
            study.model_copy(update={"base": {**study.base, "data.val": images}}), effect=1.0
        )
        for images in (300, 20_000)
    )
    assert any("data.val = 600" in caveat for caveat in few.caveats)
    assert not any("data.val" in caveat for caveat in many.caveats)


def test_the_figures_of_every_profile_are_those_of_its_committed_reports() -> None:
    path = ROOT / "tools" / "profile_figures.py"
    spec = importlib.util.spec_from_file_location("profile_figures", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for profile in PROFILES:
        assert observed(profile) == tool.figures(profile)


def test_what_a_plan_can_find_is_said_with_what_it_rests_on() -> None:
    found = plan_power(study_of("a", seeds=10), sd=0.2).finds()
    assert found.splitlines() == [
        "finds differences of 0.28 pp or more in 8 of 10 studies like it (80 % power, n = 10 seeds)",
        "finds 0.2 pp or more if all arms rise and fall together from seed to seed (correlation 0.5)",
        "both rest on an sd between seeds of 0.2 pp, as given",
    ]


def test_a_study_that_can_give_no_verdict_says_so() -> None:
    one = plan_power(study_of(seeds=10), sd=0.2)
    assert one.finds().startswith("nothing is compared: the study has one arm")
    two = plan_power(study_of("a", seeds=2), sd=0.2)
    assert two.finds() == "nothing is judged from 2 seeds: a verdict takes 3, and a firm one 5"
    assert plan_power(study_of("a", seeds=3), sd=0.2).judges_nothing() == ""


@pytest.mark.parametrize("wrong", [{"effect": 0.0}, {"sd": 0.0}, {"sd": -1.0}])
def test_an_effect_or_sd_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        plan_power(study_of("a"), **wrong)  # type: ignore[arg-type]
