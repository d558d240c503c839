"""What a study recommends: changes are tested together, harm is never recommended, an arm that was run is named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import Analysis, analyze
from harness.study.arms import arms
from harness.study.study import Study
from harness.study.trial import Trial
from tests.planted import planted, replaced, study_of, switched

FIVE = ("a", "b", "c", "d", "e")


def additive(study: Study, worth: Mapping[str, float]) -> dict[str, float]:
    """The effect of every arm where components add up: what is off is missing."""
    on = {factor.name: factor.on for factor in study.factors}
    return {
        arm.name: -sum(
            worth.get(name, 0.0) for name, level in arm.components.items() if level != on[name]
        )
        for arm in arms(study)
    }


def advised(study: Study, effects: Mapping[str, float], **settings: float) -> Analysis:
    return analyze(study, planted(study, effects, **settings))  # type: ignore[arg-type]


def test_components_that_are_harmless_one_by_one_are_not_all_dropped() -> None:
    """Each of five costs 0.25 pp, inside a margin of 1; all five cost more."""
    study = switched("leave-one-out", *FIVE, margin_pp=1.0)
    analysis = advised(study, additive(study, dict.fromkeys(FIVE, 0.25)), sd=0.35, rng=3)
    singles = [
        e
        for e in analysis.effects
        if (e.kind, e.metric, e.verdict) == ("arm", "accuracy", "equivalent")
    ]
    assert len(singles) > len(analysis.reasons)
    assert analysis.kept


def test_a_component_whose_loss_is_measurable_is_kept_however_small_the_loss() -> None:
    study = switched("leave-one-out", "a", "b", margin_pp=1.0)
    analysis = advised(study, {"no-a": -0.4}, sd=0.1)
    assert [e.verdict for e in analysis.effects if (e.term, e.metric) == ("no-a", "accuracy")] == [
        "equivalent"
    ]
    assert analysis.recommended == {"augment.brightness": 0.0}
    assert [line.split(",")[0] for line in analysis.kept] == ["no-a: equivalent"]
    assert "the loss is measurable" in analysis.kept[0]


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_the_worst_loss_is_the_one_sided_t_bound_of_the_summed_change(metric: str) -> None:
    study = switched("leave-one-out", "a", "b", margin_pp=10.0, metric=metric)
    trials = planted(study, sd=0.1)
    effects = {
        e.term: np.array(e.differences)
        for e in analyze(study, trials).effects
        if (e.kind, e.metric) == ("arm", metric)
    }
    both = effects["no-a"] + effects["no-b"]
    half = scipy_stats.t.ppf(0.95, 7) * scipy_stats.sem(both)
    worst = both.mean() - half if metric == "accuracy" else both.mean() + half
    assert f"together {both.mean():+.2f}" in analyze(study, trials).reasons[1]
    assert f"at worst {worst:+.2f}" in analyze(study, trials).reasons[1]


def test_a_sum_beyond_the_margin_is_not_dropped() -> None:
    """Constant in expectation: -0.5 each, made unmeasurable by noise that the two share with opposite signs."""
    study = switched("leave-one-out", "a", "b", "c", margin_pp=1.0)
    trials = planted(study, {"no-a": -0.3, "no-b": -0.35, "no-c": -0.4}, sd=0.35, rng=5)
    analysis = analyze(study, trials)
    by_term = {
        e.term: np.array(e.differences)
        for e in analysis.effects
        if (e.kind, e.metric) == ("arm", "accuracy")
    }
    taken: list[str] = []
    order = sorted(
        (e for e in analysis.effects if e.metric == "accuracy" and e.verdict == "equivalent"),
        key=lambda e: -(e.estimate or 0),
    )
    for effect in (e for e in order if (e.high or 0) >= 0):
        total = np.sum([by_term[name] for name in [*taken, effect.term]], axis=0)
        if scipy_stats.ttest_1samp(total, -1.0, alternative="greater").pvalue >= 0.05:
            break
        taken.append(effect.term)
    assert [
        reason.split(":")[0].removeprefix("simplify to ") for reason in analysis.reasons
    ] == taken


def test_a_gain_does_not_pay_for_a_loss() -> None:
    study = switched(
        "leave-one-out",
        "a",
        "b",
        "c",
        margin_pp=1.0,
        arms=[{"name": "extra", "set": {"train.batch_size": 64}}],
    )
    analysis = advised(study, {"extra": 9.0, "no-b": -3.0}, sd=0.3)
    assert "augment.brightness" not in analysis.recommended
    assert analysis.recommended["train.batch_size"] == 64


def test_a_study_that_asks_about_the_gap_keeps_what_narrows_it() -> None:
    trials_of = {
        margin: switched("leave-one-out", "a", "b", margin_pp=1.0, **extra)
        for margin, extra in {"none": {}, "gap": {"gap_margin_pp": 1.0}}.items()
    }
    silent, asking = (
        analyze(study, planted(study, sd=0.1, gaps={"no-a": 5.0})) for study in trials_of.values()
    )
    assert {"augment.crop", "augment.brightness"} == set(silent.recommended)
    assert asking.recommended == {"augment.brightness": 0.0}
    assert "widens the gap by +5" in asking.kept[0]


def test_a_better_arm_that_widens_the_gap_is_not_adopted_where_the_study_asks_about_it() -> None:
    study = study_of("a", gap_margin_pp=1.0)
    analysis = analyze(study, planted(study, {"a": 3.0}, gaps={"a": 4.0}))
    assert analysis.recommended == {}
    assert "widens the gap" in analysis.kept[0]


def test_a_gap_that_nobody_measured_is_no_gap_inside_the_margin() -> None:
    study = study_of("a", gap_margin_pp=1.0)
    trials = [
        t.model_copy(update={"metrics": {"accuracy": t.metrics["accuracy"]}})
        for t in planted(study, {"a": 3.0})
    ]
    analysis = analyze(study, trials)
    assert analysis.recommended == {}
    assert "the gap was not measured" in analysis.kept[0]


def test_a_recommended_recipe_that_was_an_arm_names_it() -> None:
    study = switched("factorial", "a", "b", margin_pp=1.0)
    analysis = advised(study, {"no-a": 3.0, "none": 3.0}, sd=0.1)
    assert analysis.recommended_arm == "none"
    study = switched("leave-one-out", "a", "b", margin_pp=1.0)
    assert advised(study, {}, sd=0.1).recommended_arm == ""
    assert advised(study, {"no-b": -3.0}, sd=0.1).recommended_arm == "no-a"


def test_where_an_arm_has_exactly_the_changes_its_own_differences_decide() -> None:
    """By the sum both components could go; the arm without both lost 5 pp."""
    study = switched("both", "a", "b", "c", margin_pp=1.0)
    effects = {"none": -9.0, "only-a": -9.0, "only-b": -9.0, "only-c": -5.0}
    analysis = advised(study, effects, sd=0.1)
    assert len(analysis.recommended) == 1
    assert analysis.kept


def test_components_that_stand_in_for_each_other_are_not_summed() -> None:
    """Without a or without b nothing is lost, alone each of them helps: the sum would drop both."""
    study = switched("both", "a", "b", "c", "d", margin_pp=1.0)
    effects = {"none": -5.0, "only-c": -5.0, "only-d": -5.0, "no-c": -3.0, "no-d": -3.0}
    analysis = advised(study, effects, sd=0.1)
    assert len(analysis.recommended) == 1
    assert any("may not add up" in line for line in analysis.kept)


def test_an_arm_that_was_run_and_diverged_is_not_recommended_by_a_sum() -> None:
    study = switched("both", "a", "b", "c", margin_pp=1.0)
    trials: list[Trial] = planted(study, {"none": 0.0}, sd=0.1)
    broken = replaced(trials, study, "only-c", 2, state="diverged")
    names = {"augment.crop", "augment.brightness"}
    assert not names <= set(analyze(study, broken).recommended)


def test_what_comes_after_a_failed_test_is_named_and_not_tried() -> None:
    study = switched("leave-one-out", *FIVE, margin_pp=1.0)
    analysis = advised(study, additive(study, dict.fromkeys(FIVE, 0.25)), sd=0.35, rng=8)
    failed = [i for i, line in enumerate(analysis.kept) if "beyond the margin" in line]
    assert len(failed) <= 1
    if failed and len(analysis.kept) > failed[0] + 1:
        assert "not tried after that" in analysis.kept[-1]
