from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.analysis import Check, analyze
from harness.analysis.standing import chance_line
from harness.analysis.table import join
from harness.study.arms import arms
from harness.study.study import Study
from harness.study.trial import Environment, Trial
from tests.planted import HOME, control, planted, replaced, study_of, trial, without


def check(study: Study, trials: Sequence[Trial], name: str, **settings: Any) -> Check:
    (found,) = [c for c in analyze(study, trials, **settings).checks if c.name == name]
    return found


def verdicts(study: Study, trials: Sequence[Trial]) -> dict[str, str]:
    found = [e for e in analyze(study, trials).effects if e.metric == study.metric]
    return {e.term: e.verdict for e in found}


@pytest.fixture
def study() -> Study:
    return study_of("a", "b", seeds=8)


@pytest.fixture
def trials(study: Study) -> list[Trial]:
    return planted(study, {"a": 3.0, "b": 3.0})


def test_a_sound_study_passes_every_check(study: Study, trials: list[Trial]) -> None:
    assert {c.level for c in analyze(study, trials).checks} == {"ok"}


def test_every_bad_check_says_what_to_do(study: Study, trials: list[Trial]) -> None:
    bad = replaced(without(trials, study, "a", 2), study, "b", 3, state="diverged")
    found = [c for c in analyze(study, bad).checks if c.level != "ok"]
    assert len(found) >= 2
    assert all(c.hint for c in found)


def test_failures_come_first(study: Study, trials: list[Trial]) -> None:
    levels = [
        c.level for c in analyze(study, replaced(trials, study, "b", 3, state="diverged")).checks
    ]
    assert levels == sorted(levels, key=["fail", "warn", "ok"].index)


def test_a_deleted_trial_is_named_and_its_arm_not_judged(study: Study, trials: list[Trial]) -> None:
    short = without(trials, study, "a", 2)
    found = check(study, short, "missing pairs")
    assert found.level == "fail"
    assert "a (seed 2)" in found.what
    assert verdicts(study, short) == {"a": "", "b": "better"}


def test_blocks_that_a_timeout_cut_off_warn_and_leave_the_verdicts(
    study: Study, trials: list[Trial]
) -> None:
    short = without(without(trials, study, "a", 6, 7), study, "b", 7)
    assert check(study, short, "missing pairs").level == "warn"
    assert verdicts(study, short) == {"a": "better", "b": "better"}


def test_a_diverged_trial_is_named(study: Study, trials: list[Trial]) -> None:
    found = check(study, replaced(trials, study, "b", 3, state="diverged"), "failed trials")
    assert found.level == "fail"
    assert "1 trial diverged and 0 failed: b (1 of 8)" in found.what


def test_two_data_fingerprints_are_named_and_their_arms_not_judged(
    study: Study, trials: list[Trial]
) -> None:
    other = replaced(trials, study, "a", 5, data_fingerprint="images-b")
    found = check(study, other, "images")
    assert found.level == "fail"
    assert "images-a and images-b" in found.what
    assert verdicts(study, other) == {"a": "", "b": "better"}


def test_records_on_other_images_that_were_run_again_warn(
    study: Study, trials: list[Trial]
) -> None:
    stale = trial(study, "a", 5, images="images-b", metrics={"accuracy": 0.5})
    assert check(study, [*trials, stale], "images").level == "warn"


def test_an_arm_that_did_nothing_is_named(study: Study, trials: list[Trial]) -> None:
    metrics = {t.seed: t.metrics for t in trials if t.recipe_id == arms(study)[0].recipe.id}
    idle = arms(study)[1].recipe.id
    found = check(
        study,
        [
            t.model_copy(update={"metrics": metrics[t.seed]}) if t.recipe_id == idle else t
            for t in trials
        ],
        "no-op arms",
    )
    assert found.level == "fail"
    assert found.what.startswith("a did nothing")


def test_a_control_arm_that_is_not_null_warns_with_its_false_alarm_rate() -> None:
    study = study_of("a", control=True)
    found = check(study, [*planted(study), *control(study, shift=1.0)], "A/A arm")
    assert found.level == "warn"
    assert "1 in 100" in found.what


def test_a_control_arm_that_is_null_is_ok() -> None:
    study = study_of("a", control=True)
    assert check(study, [*planted(study), *control(study)], "A/A arm").level == "ok"


def test_unequal_variances_are_named(study: Study) -> None:
    rng = np.random.default_rng(0)
    recipe = arms(study)[1].recipe.id
    noisy = [
        t.model_copy(update={"metrics": {"accuracy": 0.8 + 0.1 * rng.standard_normal()}})
        if t.recipe_id == recipe
        else t
        for t in planted(study)
    ]
    found = check(study, noisy, "variances")
    assert found.level == "warn"
    assert found.what.startswith("a varies")


def test_mixed_hardware_warns_and_mixed_engines_fail(study: Study, trials: list[Trial]) -> None:
    other = Environment(**{**HOME.model_dump(), "cpu": "another box"})
    graph = Environment(**{**HOME.model_dump(), "engine": "graph"})
    assert (
        check(study, replaced(trials, study, "a", 1, environment=other), "environments").level
        == "warn"
    )
    mixed = replaced(trials, study, "a", 1, environment=graph)
    assert check(study, mixed, "environments").level == "fail"
    assert verdicts(study, mixed) == {"a": "", "b": "better"}


def test_the_reads_of_the_test_set_are_counted(study: Study, trials: list[Trial]) -> None:
    found = check(study, trials, "test-set reads")
    assert found.level == "ok"
    assert "24 times" in found.what


def test_a_study_decided_on_the_test_set_warns() -> None:
    study = study_of("a", metric="test_accuracy")
    assert check(study, planted(study), "test-set reads").level == "warn"


@pytest.mark.parametrize(("seeds", "level"), [(2, "fail"), (3, "warn"), (4, "warn"), (5, "ok")])
def test_too_few_seeds_are_told(seeds: int, level: str) -> None:
    study = study_of("a", seeds=seeds)
    assert check(study, planted(study), "seeds").level == level


def test_a_pruned_arm_is_told_with_its_epoch(study: Study, trials: list[Trial]) -> None:
    found = check(study, replaced(trials, study, "a", 1, state="pruned", epochs=4), "pruned trials")
    assert "a (epoch 4, 1 seed)" in found.what


def test_a_study_at_chance_fails_and_one_arm_at_chance_warns(study: Study) -> None:
    classes = tuple("0123456789")
    assert check(study, planted(study, level=10.0), "chance", classes=classes).level == "fail"
    one = check(study, planted(study, {"a": -70.0}), "chance", classes=classes)
    assert one.level == "warn"
    assert one.what.endswith(": a")


def test_guessing_on_unbalanced_classes_is_the_share_of_the_commonest(study: Study) -> None:
    labels = [0] * 900 + [1] * 100
    assert check(study, planted(study, level=90.0), "chance", labels=labels).level == "fail"


def test_runs_of_sixteen_epochs_or_fewer_are_told() -> None:
    study = study_of("a", base={"train.epochs": 16})
    assert "16 epochs" in check(study, planted(study), "short runs").what


def test_a_baseline_without_trials_fails(study: Study, trials: list[Trial]) -> None:
    base = arms(study)[0].recipe.id
    assert check(study, [t for t in trials if t.recipe_id != base], "baseline").level == "fail"


def test_an_arm_of_another_size_is_named(study: Study, trials: list[Trial]) -> None:
    small = arms(study)[1].recipe.id
    found = check(
        study,
        [t.model_copy(update={"params": 500}) if t.recipe_id == small else t for t in trials],
        "model size",
    )
    assert "a (0.50 x)" in found.what


def test_a_margin_below_one_image_is_told() -> None:
    study = study_of("a", base={"data.val": 100})
    assert check(study, planted(study), "margin").level == "warn"


def test_a_changed_plan_makes_every_verdict_exploratory(study: Study, trials: list[Trial]) -> None:
    analysis = analyze(study, trials, changed=("margin_pp",))
    assert any(c.name == "plan changed" and "margin_pp" in c.what for c in analysis.checks)
    assert all("exploratory" in e.note for e in analysis.effects if e.metric == "accuracy")


def test_a_screening_is_labelled(study: Study, trials: list[Trial]) -> None:
    assert check(study, trials, "screening", screening=True).level == "warn"


def test_a_metric_that_no_trial_carries_fails() -> None:
    study = study_of("a", metric="top5")
    assert "they carry: accuracy" in check(study, planted(study), "metric").what


def test_checks_do_not_depend_on_the_order_of_arms() -> None:
    one, other = (
        study_of("a", "b"),
        study_of(arms=[{"name": n, "set": {"augment.cutout": s}} for n, s in (("b", 2), ("a", 1))]),
    )
    trials = replaced(
        replaced(planted(one), one, "a", 1, state="failed"), one, "b", 2, state="failed"
    )
    assert analyze(one, trials).checks == analyze(other, trials).checks


def test_without_validation_images_nothing_is_judged_and_a_check_says_so() -> None:
    study = study_of("a", base={"data.val": 0})
    analysis = analyze(study, planted(study, {"a": 5.0}))
    assert {effect.verdict for effect in analysis.effects} == {""}
    assert {effect.p for effect in analysis.effects if effect.metric == "accuracy"} == {None}
    assert [check.level for check in analysis.checks if check.name == "validation"] == ["fail"]


def test_seconds_of_a_machine_that_did_other_work_are_said_to_compare_little(
    study: Study, trials: list[Trial]
) -> None:
    def timed(share: float) -> list[Trial]:
        alone = HOME.model_copy(update={"threads": 1})
        return [
            one.model_copy(
                update={
                    "train_seconds": 10.0,
                    "readings": {"cpu_seconds": 10 * share},
                    "environment": alone,
                }
            )
            for one in trials
        ]

    assert check(study, timed(0.95), "busy machine").level == "ok"
    found = check(study, timed(0.5), "busy machine")
    assert (found.level, "2.00 times" in found.what) == ("warn", True)
    assert not [c for c in analyze(study, trials).checks if c.name == "busy machine"]


@pytest.mark.parametrize("state", ["diverged", "failed", "pruned"])
def test_no_check_passes_on_trials_none_of_which_finished(state: str) -> None:
    study = study_of("a", "b", seeds=8)
    ended = [t.model_copy(update={"state": state, "metrics": {}}) for t in planted(study)]
    for name in (
        "chance",
        "seeds",
        "no-op arms",
        "variances",
        "baseline",
        "failed trials" if state != "pruned" else "chance",
    ):
        assert check(study, ended, name).level != "ok", name
    assert check(study, ended, "seeds").what.startswith("0 complete seeds")


def test_no_check_passes_on_no_trials_at_all() -> None:
    passed = {c.name for c in analyze(study_of("a", "b", seeds=8), []).checks if c.level == "ok"}
    assert passed <= {"margin", "test-set reads"}  # of the study alone, and of what was not done


def test_stopped_trials_beside_a_baseline_are_no_arms_that_learned() -> None:
    study = study_of("a", seeds=8)
    base = arms(study)[0].recipe.id
    mixed = [
        t if t.recipe_id == base else t.model_copy(update={"state": "diverged", "metrics": {}})
        for t in planted(study)
    ]
    assert (
        check(study, mixed, "chance").what
        == "every arm with a finished trial learned something (1 of 2 arms)"
    )
    assert check(study, mixed, "no-op arms").what.startswith("nothing to look at")
    assert check(study, mixed, "variances").what.startswith("nothing to look at")
    assert check(study, mixed, "seeds").level == "fail"


def test_a_tie_on_every_seed_leaves_nothing_to_test_with_and_is_told(
    study: Study, trials: list[Trial]
) -> None:
    tied = [
        t.model_copy(update={"metrics": {**t.metrics, "accuracy": 0.8 + t.seed / 100}})
        for t in trials
    ]
    assert "a and b tie with the reference on every seed" in check(study, tied, "no variance").what


def test_the_chance_line_leaves_room_above_it_however_few_and_uneven_the_images(
    study: Study,
) -> None:
    perfect = planted(study, level=100.0, sd=0.0)
    assert check(study, perfect, "chance", labels=[0] * 99 + [1]).level == "ok"


def test_rare_classes_are_judged_by_balanced_accuracy(study: Study) -> None:
    labels = [0] * 950 + [1] * 50

    def balanced(value: float) -> list[Trial]:
        return [
            t.model_copy(update={"metrics": {**t.metrics, "balanced_accuracy": value}})
            for t in planted(study, level=95.0)
        ]

    assert check(study, balanced(0.50), "chance", labels=labels).level == "fail"
    learned = check(study, balanced(0.80), "chance", labels=labels)
    assert learned.level == "ok"


def test_the_balanced_line_is_exceeded_by_guessing_as_rarely_as_three_errors_say() -> None:
    study, counts = study_of("a", seeds=3), [900, 60, 40]
    line = chance_line(join(study, planted(study), curves={}, metrics={}), 3, counts)
    assert line is not None
    rng = np.random.default_rng(11)
    recall_RK = np.stack([rng.binomial(n, 1 / 3, 20_000) / n for n in counts], axis=1)
    assert (100 * recall_RK.mean(axis=1) > line.balanced).mean() < 0.004
    assert line.balanced == pytest.approx(
        100 / 3 + 300 * np.sqrt(2 / 9 * sum(1 / n for n in counts)) / 3
    )
