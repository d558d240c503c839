from __future__ import annotations

import json
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from harness.analysis import COLUMNS, Analysis, Effect, analyze, effects_frame
from harness.stats import detectable_effect
from harness.study.arms import arms
from harness.study.study import Study
from harness.study.trial import Curve, Metric, Outcomes, Trial
from tests.planted import IMAGES, control, planted, replaced, study_of, switched, trial, without


def effect(analysis: Analysis, term: str, metric: str = "accuracy", kind: str = "arm") -> Effect:
    (found,) = [e for e in analysis.effects if (e.kind, e.term, e.metric) == (kind, term, metric)]
    return found


def scores(trials: list[Trial], study: Study, arm: str, metric: str = "accuracy") -> list[float]:
    recipe = next(one.recipe for one in arms(study) if one.name == arm)
    return [100 * one.metrics[metric] for one in trials if one.recipe_id == recipe.id]


def test_planted_effects_come_back_with_their_verdicts() -> None:
    study = study_of("up", "down", "same")
    analysis = analyze(study, planted(study, {"up": 1.0, "down": -1.0}, sd=0.1))
    assert [effect(analysis, name).verdict for name in ("up", "down", "same")] == [
        "better",
        "worse",
        "equivalent",
    ]


def test_an_effect_is_the_paired_difference_with_its_t_interval_in_points() -> None:
    study = study_of("a", seeds=8)
    trials = planted(study, {"a": 0.4})
    one, base = scores(trials, study, "a"), scores(trials, study, "reference")
    expected = scipy_stats.ttest_rel(one, base)
    low, high = expected.confidence_interval(0.95)
    found = effect(analyze(study, trials), "a")
    assert [found.estimate, found.low, found.high, found.p] == pytest.approx(
        [np.mean(one) - np.mean(base), low, high, expected.pvalue]
    )
    assert found.seed_correlation == pytest.approx(np.corrcoef(one, base)[0, 1])


def test_a_level_is_the_mean_with_its_t_interval_and_keeps_every_seed() -> None:
    study = study_of("a", seeds=6)
    trials = planted(study)
    (level,) = [
        s for s in analyze(study, trials).summaries if s.arm == "a" and s.metric == "accuracy"
    ]
    values = scores(trials, study, "a")
    half = scipy_stats.t.ppf(0.975, 5) * np.std(values, ddof=1) / sqrt(6)
    assert (level.mean, level.high) == pytest.approx((np.mean(values), np.mean(values) + half))
    assert level.scores == pytest.approx(values)
    assert level.seeds == (0, 1, 2, 3, 4, 5)


def test_secondary_metrics_have_intervals_and_no_verdict_and_only_the_gap_has_p_values() -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study, {"a": 2.0}))
    others = [e for e in analysis.effects if e.metric != "accuracy"]
    assert {e.metric for e in others} == {"gap", "nll", "test_accuracy"}
    assert all(e.low is not None and e.verdict == "" for e in others)
    assert {e.metric for e in others if e.p is not None or e.p_holm is not None} == {"gap"}


def test_gaps_are_a_holm_family_of_their_own() -> None:
    study = study_of("a", "b", "c")
    analysis = analyze(study, planted(study, gaps={"a": 0.3, "b": 0.15}))
    gaps = {e.term: e for e in analysis.effects if e.metric == "gap"}
    raw = [float(scipy_stats.ttest_1samp(e.differences, 0.0).pvalue) for e in gaps.values()]
    assert [e.p for e in gaps.values()] == pytest.approx(raw, rel=1e-9)
    assert [e.p_holm for e in gaps.values()] == pytest.approx(
        multipletests(raw, method="holm")[1], rel=1e-9
    )


def test_studies_of_nothing_get_a_word_as_rarely_as_promised() -> None:
    rng, studies, told = np.random.default_rng(16), 150, 0
    study = study_of("a", "b", "c", seeds=6, margin_pp=1.0)
    for _ in range(studies):
        told += any(arm.word for arm in analyze(study, planted(study, rng=rng)).arms)
    assert told <= scipy_stats.binom.ppf(0.9995, studies, 0.05)


def test_the_real_part_of_the_sd_is_that_of_the_mean_squares() -> None:
    study = study_of("a", seeds=6)
    rng = np.random.default_rng(3)
    skill = {(t.recipe_id, t.seed): rng.normal(0.7, 0.05) for t in planted(study)}
    outcomes = {
        t.cell: Outcomes(rng.random(400) < skill[t.recipe_id, t.seed], np.zeros(1, dtype=np.bool_))
        for t in planted(study)
    }
    trials = [
        t.model_copy(
            update={
                "metrics": {**t.metrics, "accuracy": float(outcomes[t.cell].val_correct_N.mean())}
            }
        )
        for t in planted(study)
    ]
    found = effect(analyze(study, trials, outcomes=outcomes, labels=np.arange(400) % 10), "a")
    base, arm = (arms(study)[k].recipe.id for k in (0, 1))
    difference_SI = np.stack(
        [
            outcomes[one.cell].val_correct_N.astype(float) - outcomes[other.cell].val_correct_N
            for one in trials
            if one.recipe_id == arm
            for other in trials
            if other.recipe_id == base and other.seed == one.seed
        ]
    )
    rest_SI = (
        difference_SI
        - difference_SI.mean(0)
        - difference_SI.mean(1, keepdims=True)
        + difference_SI.mean()
    )
    noise = (rest_SI**2).sum() / (5 * 399) / 400
    assert found.sd is not None
    assert found.sd_images is not None
    assert found.sd_images**2 == pytest.approx(1e4 * noise, rel=1e-6)
    assert found.image_low is not None
    assert found.low is not None
    assert found.image_low <= found.low


def test_an_arm_added_to_nothing_is_compared_with_nothing() -> None:
    study = switched("both", "a", "b", "c")
    trials = planted(study, {"none": -5.0, "only-a": -3.0})
    found = effect(analyze(study, trials), "only-a")
    assert found.reference == "none"
    assert found.estimate == pytest.approx(2.0, abs=0.5)


def test_a_loss_is_better_when_it_falls() -> None:
    study = study_of("a", metric="nll")
    trials = [
        t.model_copy(update={"metrics": {**t.metrics, "loss_gap": 0.1}}) for t in planted(study)
    ]
    recipe = arms(study)[1].recipe.id
    lower = [
        t.model_copy(update={"metrics": {**t.metrics, "nll": t.metrics["nll"] - 0.2}})
        if t.recipe_id == recipe
        else t
        for t in trials
    ]
    analysis = analyze(study, lower)
    assert effect(analysis, "a", "nll").verdict == "better"
    assert analysis.gap == "loss_gap"
    assert analysis.margin == pytest.approx(0.003)


def test_a_metric_of_the_users_own_is_judged_in_its_direction() -> None:
    study = study_of("a", metric="errors")
    cost = Metric("errors", "1", higher_is_better=False, label="errors")
    trials = [
        t.model_copy(update={"metrics": {"errors": 100 - 100 * t.metrics["accuracy"]}})
        for t in planted(study, {"a": 2.0})
    ]
    assert (
        effect(analyze(study, trials, metrics={"errors": cost}), "a", "errors").verdict == "better"
    )


def test_a_gap_that_trials_do_not_carry_is_taken_from_train_and_validation_scores() -> None:
    study = study_of("a", metric="macro_f1")
    trials = [
        t.model_copy(
            update={
                "metrics": {
                    "macro_f1": 0.8,
                    "train_macro_f1": 0.95 if t.recipe.augment.cutout else 0.9,
                }
            }
        )
        for t in planted(study)
    ]
    analysis = analyze(study, trials)
    assert analysis.gap == "macro_f1_gap"
    assert effect(analysis, "a", "macro_f1_gap").estimate == pytest.approx(5.0)


def test_only_seeds_that_every_arm_finished_count() -> None:
    study = study_of("a", "b", seeds=8)
    trials = without(planted(study), study, "b", 6, 7)
    analysis = analyze(study, trials)
    assert analysis.seeds == (0, 1, 2, 3, 4, 5)
    assert effect(analysis, "a").n == 6
    assert not analysis.finished


def test_a_run_cut_short_gives_provisional_verdicts() -> None:
    study = study_of("a", seeds=8)
    found = effect(analyze(study, planted(study, {"a": 3.0}, among=range(6))), "a")
    assert (found.verdict, found.note) == ("better", "provisional (6 of 8 seeds)")


def test_fewer_than_three_seeds_give_no_verdict() -> None:
    study = study_of("a", seeds=2)
    found = effect(analyze(study, planted(study, {"a": 5.0})), "a")
    assert (found.verdict, found.p) == ("", None)


@pytest.mark.parametrize(
    ("state", "told"), [("diverged", "unstable (1 of 8), -6."), ("failed", "unstable (1 of 8)")]
)
def test_an_arm_that_lost_a_seed_is_unstable_and_not_judged(state: str, told: str) -> None:
    study = study_of("a", "b", seeds=8)
    trials = replaced(planted(study, {"a": 3.0, "b": 3.0}), study, "a", 3, state=state)
    analysis = analyze(study, trials, classes=tuple("0123456789"))
    lost, kept = effect(analysis, "a"), effect(analysis, "b")
    assert lost.verdict == ""
    # a diverged net guesses: seven gains of 3 and one fall from 80 to 10
    assert lost.note.startswith(told)
    assert lost.n == 7
    assert (kept.verdict, kept.n) == ("better", 8)


def test_arms_compared_with_an_unstable_one_are_not_judged() -> None:
    study = study_of("a", seeds=8)
    found = effect(
        analyze(study, replaced(planted(study, {"a": 3.0}), study, "reference", 3, state="failed")),
        "a",
    )
    assert (found.verdict, found.note) == ("", "its reference is unstable (1 of 8)")


def test_a_pruned_arm_is_censored_at_its_epoch_without_an_estimate() -> None:
    study = study_of("a", seeds=8)
    analysis = analyze(
        study, replaced(planted(study, {"a": 3.0}), study, "a", 3, state="pruned", epochs=7)
    )
    found = effect(analysis, "a")
    assert (found.verdict, found.estimate, found.note) == ("", None, "censored at epoch 7")
    assert analysis.arms[1].censored_at == 7
    assert [s.mean for s in analysis.summaries if s.arm == "a"] == [None] * 4


def test_a_screening_judges_nobody() -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study, {"a": 3.0}), screening=True)
    assert {e.verdict for e in analysis.effects} == {""}
    assert {e.p for e in analysis.effects} == {None}
    assert analysis.recommended == {}


def test_an_arm_that_computed_the_same_is_flagged_and_never_called_equivalent() -> None:
    study = study_of("idle", "a")
    trials = planted(study)
    base = {t.seed: t.metrics for t in trials if t.recipe_id == arms(study)[0].recipe.id}
    idle = arms(study)[1].recipe.id
    same = [
        t.model_copy(update={"metrics": base[t.seed]}) if t.recipe_id == idle else t for t in trials
    ]
    found = effect(analyze(study, same), "idle")
    assert (found.verdict, found.note, found.estimate) == ("", "did nothing", None)


def test_equal_scores_with_different_losses_by_epoch_are_not_a_no_op() -> None:
    study = study_of("a", seeds=5)
    trials = [
        t.model_copy(update={"metrics": {"accuracy": 0.8 + t.seed / 100, "nll": 0.5}})
        for t in planted(study)
    ]
    curves = {t.cell: Curve(val_loss=(1.0, 0.5 + 0.1 * t.recipe.augment.cutout)) for t in trials}
    found = effect(analyze(study, trials, curves=curves), "a")
    assert (found.verdict, found.note) == ("unresolved", "tie on every seed")


def test_a_study_in_which_every_arm_is_at_chance_crowns_nobody() -> None:
    study = study_of("a", "b")
    trials = planted(study, {"a": 0.3, "b": -0.3}, level=10.0, sd=0.05)
    analysis = analyze(study, trials, classes=tuple("0123456789"))
    assert {e.verdict for e in analysis.effects} == {""}
    assert analysis.recommended == {}
    assert {arm.word for arm in analysis.arms} == {""}


def test_nothing_is_judged_against_a_baseline_that_is_at_chance() -> None:
    study = study_of("a", "b")
    trials = planted(study, {"a": 15.0}, level=10.0, sd=0.05)
    analysis = analyze(study, trials, classes=tuple("0123456789"))
    found = effect(analysis, "a")
    assert (found.verdict, found.note) == ("", "its reference is at chance")
    assert analysis.recommended == {}
    assert any((check.name, check.level) == ("chance", "fail") for check in analysis.checks)


def test_an_arm_that_fell_to_chance_is_worse() -> None:
    study = study_of("a")
    assert (
        effect(
            analyze(study, planted(study, {"a": -70.0}), classes=tuple("0123456789")), "a"
        ).verdict
        == "worse"
    )


def test_the_word_of_an_arm_reads_accuracy_and_gap_together() -> None:
    study = study_of("calm", "starved", "good", "bad", "plain")
    gaps = {"calm": -4, "starved": -4, "good": 4, "bad": 4}
    trials = planted(study, {"starved": -3, "good": 3, "bad": -3, "plain": 3}, gaps=gaps, sd=0.1)
    words = {arm.name: arm.word for arm in analyze(study, trials).arms if arm.word}
    assert words == {"calm": "regularises", "starved": "underfits", "good": "helps", "bad": "hurts"}


def test_the_control_arm_is_paired_by_index_and_outside_the_families() -> None:
    study = study_of("a", control=True)
    trials = planted(study)
    alone = effect(analyze(study, trials), "a")
    analysis = analyze(study, [*trials, *control(study)])
    found = effect(analysis, "A/A", kind="control")
    assert (found.n, found.verdict, found.p_holm) == (10, "", None)
    assert found.p is not None
    assert effect(analysis, "a") == alone


def test_onset_epochs_are_counted_from_one_and_censored_when_there_is_none() -> None:
    study = study_of("a", seeds=3)
    trials = planted(study)
    turning = Curve(val_loss=(1.0, 0.8, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9))
    falling = Curve(val_loss=tuple(1.0 / (epoch + 1) for epoch in range(8)))
    curves = {t.cell: turning if t.recipe.augment.cutout else falling for t in trials}
    base, arm = analyze(study, trials, curves=curves).arms
    assert (base.onset_epoch, base.onset_none) == (None, 3)
    assert (arm.onset_epoch, arm.onset_none) == (4.0, 0)


def with_outcomes(
    study: Study, trials: list[Trial], harder: dict[str, float]
) -> tuple[dict[str, Outcomes], np.ndarray[Any, Any]]:
    """Per-image outcomes over 400 images of two classes; ``harder`` lowers an arm's accuracy in class 1."""
    rng = np.random.default_rng(3)
    labels_N = np.repeat([0, 1], 200)
    names = {arm.recipe.id: arm.name for arm in arms(study)}
    found = {}
    for one in trials:
        rate_N = 0.8 - harder.get(names[one.recipe_id], 0.0) * labels_N
        found[one.cell] = Outcomes(rng.random(400) < rate_N, np.zeros(0, dtype=bool))
    return found, labels_N


def test_effects_within_classes_are_told_apart() -> None:
    study = study_of("a")
    trials = planted(study)
    outcomes, labels_N = with_outcomes(study, trials, {"a": 0.3})
    cat, dog = analyze(
        study, trials, outcomes=outcomes, labels=labels_N, classes=("cat", "dog")
    ).classes
    assert (cat.label, dog.label, dog.n) == ("cat", "dog", 10)
    assert dog.estimate == pytest.approx(-30, abs=5)
    assert abs(cat.estimate) < 5


def test_per_image_outcomes_buy_a_wider_interval_for_new_images() -> None:
    study = study_of("a")
    trials = planted(study)
    outcomes, _ = with_outcomes(study, trials, {"a": 0.3})
    trials = [
        t.model_copy(update={"metrics": {"accuracy": float(outcomes[t.cell].val_correct_N.mean())}})
        for t in trials
    ]
    found = effect(analyze(study, trials, outcomes=outcomes), "a")
    bounds = [found.image_low, found.low, found.high, found.image_high]
    assert bounds == sorted(bounds, key=float)  # type: ignore[arg-type]


def test_seeds_needed_and_detectable_effect_are_those_of_the_plan() -> None:
    study = study_of("a", seeds=5)
    analysis = analyze(study, planted(study, {"a": 0.4}, sd=0.4, rng=2))
    found = effect(analysis, "a")
    assert found.verdict == "unresolved"
    assert analysis.seeds_needed["a"] > 5
    assert analysis.detectable_pp == pytest.approx(
        detectable_effect((found.sd or 0.0) / sqrt(2), 5)
    )


def test_the_recommended_recipe_keeps_what_is_better_and_drops_what_is_equivalent() -> None:
    study = switched(
        "leave-one-out",
        "a",
        "b",
        "c",
        margin_pp=1.0,
        arms=[{"name": "extra", "set": {"train.batch_size": 64}}],
    )
    trials = planted(study, {"no-a": 2.0, "no-c": -3.0, "extra": 3.0}, sd=0.1)
    analysis = analyze(study, trials)
    assert analysis.recommended == {
        "train.batch_size": 64,
        "augment.crop": 0,
        "augment.brightness": 0.0,
    }
    assert [reason.split(":")[0] for reason in analysis.reasons] == [
        "adopt extra",
        "adopt no-a",
        "simplify to no-b",
    ]


def test_of_two_levels_of_one_field_the_better_one_is_recommended() -> None:
    study = study_of("a", "b")
    assert analyze(study, planted(study, {"a": 2.0, "b": 4.0})).recommended == {"augment.cutout": 2}


def test_an_equivalent_addition_is_not_adopted() -> None:
    study = study_of("a", margin_pp=1.0)
    assert analyze(study, planted(study, sd=0.1)).recommended == {}


def test_a_study_decided_on_test_images_recommends_nothing() -> None:
    study = study_of("a", metric="test_accuracy")
    analysis = analyze(study, planted(study, {"a": 3.0}))
    assert effect(analysis, "a", "test_accuracy").verdict == "better"
    assert analysis.recommended == {}


@settings(max_examples=15)
@given(
    st.permutations(["one", "two", "three"]),
    st.sampled_from([["x", "y", "z"], ["z", "y", "x"], ["<b>", "ü", " a b"]]),
)
def test_names_and_order_of_arms_change_nothing_else(order: list[str], names: list[str]) -> None:
    settings_of = {"one": 3, "two": 5, "three": 7}
    renamed = dict(zip(settings_of, names, strict=True))
    plain = study_of(
        arms=[{"name": name, "set": {"augment.cutout": side}} for name, side in settings_of.items()]
    )
    other = study_of(
        baseline="zero",
        arms=[{"name": renamed[n], "set": {"augment.cutout": settings_of[n]}} for n in order],
    )
    trials = planted(plain, {"one": 0.3, "two": -0.5}, gaps={"one": -1.0})
    one, two = analyze(plain, trials), analyze(other, trials[::-1])
    for name in settings_of:
        for metric in ("accuracy", "gap", "nll"):
            changed = effect(two, renamed[name], metric).model_copy(
                update={"term": name, "reference": "reference"}
            )
            assert changed == effect(one, name, metric)
    assert {renamed[name]: needed for name, needed in one.seeds_needed.items()} == two.seeds_needed
    assert (one.detectable_pp, one.recommended) == (two.detectable_pp, two.recommended)


def test_an_analysis_survives_json_and_holds_no_nan() -> None:
    study = study_of("a", "b", seeds=3, control=True)
    trials = replaced(planted(study), study, "a", 1, state="pruned", epochs=2)
    analysis = analyze(study, [*trials, *control(study)])
    text = analysis.model_dump_json()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in the file"))
    # which images it saw is read from the trials
    assert Analysis.model_validate_json(text) == analysis.model_copy(
        update={"data_fingerprint": ""}
    )


@pytest.mark.parametrize("count", [0, 1])
def test_a_study_with_hardly_a_trial_is_analysed_all_the_same(count: int) -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study)[:count])
    assert analysis.trials_total == count
    assert all(e.estimate is None for e in analysis.effects)


def test_trials_of_other_recipes_and_seeds_are_passed_over() -> None:
    study, larger = study_of("a", seeds=5), study_of("a", "b", seeds=9)
    trials = planted(larger)
    assert analyze(study, trials).trials_total == 10


def test_the_frame_has_the_stable_columns_sorted_rows_and_a_baseline_without_estimate() -> None:
    study = switched("factorial", "a", "b")
    frame = effects_frame(analyze(study, planted(study)))
    assert tuple(frame.columns) == COLUMNS
    assert frame["kind"].drop_duplicates().tolist() == ["arm", "main", "interaction", "shapley"]
    rows = frame[["kind", "term", "metric"]].apply(tuple, axis=1).tolist()
    assert len(set(rows)) == len(rows)
    base = frame[frame["term"] == "reference"]
    assert base["metric"].tolist() == ["accuracy", "gap", "nll", "test_accuracy"]
    assert base["estimate"].isna().all()
    assert base["mean"].notna().all()


def test_a_record_of_the_right_images_stands_for_its_cell() -> None:
    study = study_of("a", seeds=4)
    trials = planted(study)
    stale = [
        trial(study, "a", seed, images="images-b", metrics={"accuracy": 0.1}) for seed in range(3)
    ]
    assert effect(analyze(study, [*stale, *trials]), "a") == effect(
        analyze(study, trials, data_fingerprint=IMAGES), "a"
    )


def test_with_components_added_alone_those_that_hurt_are_dropped() -> None:
    study = switched("add-one-in", "a", "b", "c")
    trials = planted(study, {"none": -5.0, "only-a": -8.0, "only-b": -2.0, "only-c": -2.0}, sd=0.1)
    assert analyze(study, trials).recommended == {"augment.crop": 0}


def test_the_best_epoch_is_read_from_the_curve_where_the_trial_does_not_carry_it() -> None:
    study = study_of("a", seeds=3)
    trials = planted(study)
    curve = Curve(
        val_loss=(1.0, 0.5, 0.6), val_accuracy=(0.5, 0.8, 0.7), train_accuracy=(0.5, 0.85, 0.99)
    )
    levels = {
        s.metric: s.mean
        for s in analyze(study, trials, curves={t.cell: curve for t in trials}).summaries
        if s.arm == "reference"
    }
    assert levels["best_accuracy"] == pytest.approx(80.0)
    assert levels["best_gap"] == pytest.approx(5.0)


def test_the_best_epoch_is_one_that_was_validated() -> None:
    study = study_of("a", seeds=3)
    nan = float("nan")
    curve = Curve(val_loss=(nan, 0.5, nan, 0.6), val_accuracy=(nan, 0.8, nan, 0.7))
    found = analyze(study, trials := planted(study), curves={t.cell: curve for t in trials})
    levels = {s.metric: s.mean for s in found.summaries if s.arm == "reference"}
    assert levels["best_accuracy"] == pytest.approx(80.0)


def test_a_family_of_more_arms_than_are_shown_counts_for_the_gap_and_for_the_seeds_to_come() -> (
    None
):
    study = study_of("a", "b", seeds=8)
    trials = planted(study, {"a": 0.6}, sd=0.5)
    few, many = (
        analyze(study.model_copy(update={"family": family}), trials) for family in (0, 200)
    )
    gap = effect(few, "a", "gap")
    assert gap.p is not None
    assert effect(many, "a", "gap").p_holm == pytest.approx(min(1.0, 200 * gap.p))
    assert (few.detectable_pp or 0.0) < (many.detectable_pp or 0.0)


def test_an_older_report_says_by_what_is_left_how_much_images_add_to_the_sd() -> None:
    content = {"kind": "arm", "term": "a", "reference": "r", "metric": "accuracy", "unit": "pp"}
    old = Effect.model_validate({**content, "n": 5, "sd": 0.5, "sd_real": 0.3})
    assert old.sd_images == pytest.approx(0.4)
