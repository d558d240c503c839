from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import analyze
from harness.analysis.comparison import SPEED, Comparison, Difference, compare
from harness.errors import UsageError
from harness.study.arms import arms
from harness.study.study import Study
from harness.study.trial import Environment, Trial
from tests.planted import HOME, planted, replaced, study_of


def row(comparison: Comparison, arm: str, metric: str = "accuracy") -> Difference:
    (found,) = [d for d in comparison.differences if (d.arm, d.metric) == (arm, metric)]
    return found


def both(study: Study, effects: dict[str, float], *, other: Study | None = None) -> Comparison:
    second = other or study
    return compare(
        analyze(study, planted(study, sd=0.1)),
        analyze(second, planted(second, effects, sd=0.1, rng=1)),
    )


def paced(trials: list[Trial], factor: float) -> list[Trial]:
    rng = np.random.default_rng(int(100 * factor))
    return [
        t.model_copy(
            update={"images_per_second": 1000 * factor * (1 + 0.01 * rng.standard_normal())}
        )
        for t in trials
    ]


def rulings(comparison: Comparison) -> dict[str, str]:
    return {ruling.arm: ruling.answer for ruling in comparison.rulings}


def why(comparison: Comparison, arm: str = "a") -> str:
    return next(ruling.why for ruling in comparison.rulings if ruling.arm == arm)


def test_a_report_has_the_results_of_itself_which_is_no_verdict_and_passes() -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study))
    comparison = compare(analysis, analysis)
    told = {(d.verdict, d.note) for d in comparison.differences if d.metric != "gap"}
    assert told == {("", "the same results on every seed")}
    assert comparison.answer == "pass"


@pytest.mark.parametrize(
    ("few", "other_nll"), [(True, 0.6), (False, 0.7)], ids=["few values", "another loss"]
)
def test_a_tie_that_need_not_be_one_program_does_not_pass(few: bool, other_nll: float) -> None:
    study = study_of("a", seeds=5)

    def coarse(nll: float) -> list[Trial]:
        scores = [0.231 + 0.003 * (t.seed % 2 if few else t.seed) for t in planted(study)]
        return [
            t.model_copy(update={"metrics": {"accuracy": score, "nll": nll}})
            for t, score in zip(planted(study), scores, strict=True)
        ]

    comparison = compare(analyze(study, coarse(0.6)), analyze(study, coarse(other_nll)))
    assert (comparison.answer, why(comparison)) == ("cannot tell", "tie on every seed")


@pytest.mark.parametrize("speed", [False, True])
def test_runs_on_other_images_are_shown_and_not_judged(speed: bool) -> None:
    study = study_of("a", seeds=20)
    here, there = (
        analyze(study, [t.model_copy(update={"data_fingerprint": name}) for t in planted(study)])
        for name in ("images-a", "images-b")
    )
    comparison = compare(here, there, speed=speed)
    assert {ruling.answer for ruling in comparison.rulings} == {"cannot tell"}
    assert {ruling.seeds for ruling in comparison.rulings} == {None}  # no number of them would tell
    assert "different images (fingerprints images-a and images-b)" in why(comparison)
    assert any("nothing is judged" in note for note in comparison.notes)
    assert {one.verdict for one in comparison.differences} == {""}
    assert row(comparison, "a").low is not None


def test_images_that_one_side_does_not_know_bar_nothing() -> None:
    study = study_of("a", seeds=20)
    known = analyze(study, planted(study))
    unknown = analyze(
        study, [t.model_copy(update={"data_fingerprint": ""}) for t in planted(study)]
    )
    assert compare(known, unknown).answer == "pass"


def test_non_inferiority_within_the_margin_passes() -> None:
    comparison = both(study_of("a", seeds=20), {"a": -0.05})
    assert rulings(comparison) == {"reference": "pass", "a": "pass"}
    assert comparison.answer == "pass"


def test_the_p_of_non_inferiority_is_that_of_scipy() -> None:
    study = study_of("a")
    one, other = planted(study, sd=0.3), planted(study, {"a": 0.1}, sd=0.3, rng=1)
    (found,) = [
        r for r in compare(analyze(study, one), analyze(study, other)).rulings if r.arm == "a"
    ]
    scores = [
        [100 * t.metrics["accuracy"] for t in trials if t.recipe_id == arms(study)[1].recipe_id]
        for trials in (one, other)
    ]
    expected = scipy_stats.ttest_rel(
        scores[1], [score - 0.3 for score in scores[0]], alternative="greater"
    ).pvalue
    assert found.p == pytest.approx(float(expected), rel=1e-9)


def test_a_wide_interval_cannot_tell_and_says_how_many_seeds_would() -> None:
    study = study_of("a", seeds=5)
    comparison = compare(
        analyze(study, planted(study, sd=1.0)), analyze(study, planted(study, sd=1.0, rng=1))
    )
    assert comparison.answer == "cannot tell"
    (found,) = [r for r in comparison.rulings if r.arm == "a"]
    assert found.why == "the interval is too wide"
    assert found.seeds is not None
    assert found.seeds > 5


def test_the_seeds_it_would_take_give_an_answer_four_times_in_five() -> None:
    from harness.analysis.comparison import _rules, _seeds_to_tell, _test

    rng = np.random.default_rng(16)
    study = study_of("a", seeds=6)
    analysis = analyze(study, planted(study))
    rules = _rules(analysis, analysis, "accuracy", same_ground=True)
    seen = rng.normal(-0.1, 0.5, 6)
    tested = _test(
        dict.fromkeys(range(6), 0.0),
        dict(enumerate(seen)),
        alpha=0.05,
        margin=rules.margin,
        paired=True,
    )
    n = _seeds_to_tell(tested, rules, family=2)
    assert n is not None

    # As many studies of n seeds from what was seen; counted by the plain definitions.
    draws_RS = rng.normal(seen.mean(), seen.std(ddof=1), (4000, n))
    error_R = draws_RS.std(ddof=1, axis=1) / np.sqrt(n)
    passed_R = (draws_RS.mean(axis=1) + rules.margin) / error_R > scipy_stats.t.isf(0.05, n - 1)
    worse_R = draws_RS.mean(axis=1) / error_R < -scipy_stats.t.isf(0.0125, n - 1)
    answered = int((passed_R | worse_R).sum())
    assert scipy_stats.binomtest(answered, 4000).proportion_ci(0.999).high > 0.8
    assert answered / 4000 < 0.85  # the smallest such number, not a far larger one


def test_half_of_the_runs_diverged_cannot_tell() -> None:
    study = study_of("a", seeds=8)
    lost = planted(study, rng=1)
    for seed in range(4):
        lost = replaced(lost, study, "a", seed, state="diverged")
    comparison = compare(analyze(study, planted(study)), analyze(study, lost))
    assert (comparison.answer, why(comparison)) == ("cannot tell", "B is unstable (4 of 8)")
    assert row(comparison, "a").verdict == ""


def test_an_arm_that_b_lacks_cannot_be_told() -> None:
    one, other = study_of("a", "gone", seeds=20), study_of("a", seeds=20)
    comparison = compare(
        analyze(one, planted(one, sd=0.1)), analyze(other, planted(other, sd=0.1, rng=1))
    )
    assert (comparison.answer, why(comparison, "gone")) == ("cannot tell", "not in B")


def test_two_seeds_cannot_tell_however_large_the_loss() -> None:
    one, other = study_of("a", seeds=8), study_of("a", seeds=2)
    comparison = compare(
        analyze(one, planted(one)), analyze(other, planted(other, {"a": -4.7}, rng=1))
    )
    assert (comparison.answer, why(comparison)) == ("cannot tell", "fewer than 3 pairs")


def test_an_unfinished_report_does_not_pass_but_can_be_worse() -> None:
    study = study_of("a", seeds=20)
    before = analyze(study, planted(study, sd=0.1))
    cut = analyze(study, planted(study, sd=0.1, rng=1, among=range(15)))
    assert compare(before, cut).answer == "cannot tell"
    worse = analyze(study, planted(study, {"a": -2.0}, sd=0.1, rng=1, among=range(15)))
    assert compare(before, worse).answer == "worse"


def test_nets_that_guess_on_both_sides_cannot_be_told() -> None:
    study = study_of("a", seeds=20)
    comparison = compare(
        analyze(study, planted(study, level=10.0, sd=0.1)),
        analyze(study, planted(study, level=10.0, sd=0.1, rng=1)),
    )
    assert (comparison.answer, why(comparison)) == ("cannot tell", "A is at chance, B is at chance")


def test_a_fall_to_chance_is_worse() -> None:
    study = study_of("a", seeds=8)
    comparison = compare(
        analyze(study, planted(study)), analyze(study, planted(study, level=10.0, rng=1))
    )
    assert comparison.answer == "worse"


def test_what_was_decided_on_test_images_does_not_pass() -> None:
    study = study_of("a", seeds=20, base={"data": {"val": 0}})
    comparison = compare(
        analyze(study, planted(study, sd=0.1)), analyze(study, planted(study, sd=0.1, rng=1))
    )
    assert comparison.answer == "cannot tell"


@pytest.mark.parametrize("images", [300, 10_000])
def test_the_same_difference_on_every_seed_in_coarse_scores_cannot_tell(images: int) -> None:
    study = study_of("a", seeds=3)
    right = {0: 0.77, 1: 0.79, 2: 0.8066}

    def counted(extra: int) -> list[Trial]:
        shares = [(round(right[t.seed] * images) + extra) / images for t in planted(study)]
        return [
            t.model_copy(update={"metrics": {"accuracy": s}})
            for t, s in zip(planted(study), shares, strict=True)
        ]

    comparison = compare(analyze(study, counted(0)), analyze(study, counted(3)))
    assert row(comparison, "a").verdict == "unresolved"
    assert row(comparison, "a").p_holm is None
    assert why(comparison).startswith("the same difference on every seed")


def test_a_fall_in_accuracy_is_worse() -> None:
    comparison = both(study_of("a", "b"), {"a": -1.0})
    assert (row(comparison, "a").verdict, row(comparison, "b").verdict) == ("worse", "equivalent")
    assert comparison.worse


def test_a_gain_is_better_and_not_worse() -> None:
    comparison = both(study_of("a"), {"a": 1.0})
    assert row(comparison, "a").verdict == "better"
    assert not comparison.worse


def test_equal_seeds_are_paired_and_others_compared_by_welch() -> None:
    ten, eight = study_of("a", seeds=10), study_of("a", seeds=8)
    assert row(both(ten, {}), "a").test == "paired"
    assert row(both(ten, {}, other=eight), "a").test == "welch"


def test_welch_is_that_of_scipy() -> None:
    ten, eight = study_of("a", seeds=10), study_of("a", seeds=8)
    one, other = planted(ten), planted(eight, {"a": 0.3}, sd=0.6, rng=1)
    found = row(compare(analyze(ten, one), analyze(eight, other)), "a")

    def scores(study: Study, trials: list[Trial]) -> list[float]:
        return [
            100 * t.metrics["accuracy"] for t in trials if t.recipe_id == arms(study)[1].recipe.id
        ]

    expected = scipy_stats.ttest_ind(scores(eight, other), scores(ten, one), equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert [found.p, found.low, found.high] == pytest.approx([expected.pvalue, low, high])


def test_throughput_is_a_ratio_with_an_interval() -> None:
    study = study_of("a")
    before, after = (
        analyze(study, paced(planted(study), 1.0)),
        analyze(study, paced(planted(study), 0.8)),
    )
    slow = compare(before, after, speed=True)
    found = row(slow, "a", SPEED)
    assert found.unit == "%"
    assert found.estimate == pytest.approx(-20, abs=1)
    assert found.verdict == "worse"
    assert slow.worse
    assert compare(before, after).answer == "pass"


def test_a_change_of_speed_within_five_percent_is_equivalent() -> None:
    study = study_of("a")
    found = row(
        compare(
            analyze(study, paced(planted(study), 1.0)), analyze(study, paced(planted(study), 0.98))
        ),
        "a",
        SPEED,
    )
    assert found.verdict == "equivalent"
    assert log(1 + (found.estimate or 0) / 100) == pytest.approx(log(0.98), abs=0.01)


def test_speed_on_another_machine_is_shown_and_not_judged() -> None:
    study = study_of("a")
    away = Environment(**{**HOME.model_dump(), "cpu": "another box"})
    there = [t.model_copy(update={"environment": away}) for t in paced(planted(study), 0.5)]
    comparison = compare(analyze(study, paced(planted(study), 1.0)), analyze(study, there))
    assert row(comparison, "a", SPEED).verdict == ""
    assert not comparison.worse
    asked = compare(analyze(study, paced(planted(study), 1.0)), analyze(study, there), speed=True)
    assert asked.answer == "cannot tell"
    assert any("different environments" in note for note in comparison.notes)


def test_the_gap_has_an_interval_and_no_verdict() -> None:
    study = study_of("a")
    found = row(
        compare(
            analyze(study, planted(study)), analyze(study, planted(study, gaps={"a": 4.0}, rng=1))
        ),
        "a",
        "gap",
    )
    assert found.low is not None
    assert found.low > 3
    assert found.verdict == ""


def test_arms_are_matched_by_name_then_by_recipe_and_the_rest_is_listed() -> None:
    one = study_of("a", "gone")
    other = study_of(
        arms=[
            {"name": "renamed", "set": {"augment.cutout": 1}},
            {"name": "new", "set": {"augment.cutout": 9}},
        ]
    )
    comparison = compare(analyze(one, planted(one)), analyze(other, planted(other)))
    assert {d.arm for d in comparison.differences} == {"reference", "a"}
    assert (comparison.only_a, comparison.only_b) == (("gone",), ("new",))


def test_an_arm_whose_recipe_changed_is_told() -> None:
    one, other = study_of("a"), study_of(arms=[{"name": "a", "set": {"augment.cutout": 9}}])
    comparison = compare(analyze(one, planted(one)), analyze(other, planted(other)))
    assert comparison.other_recipes == ("a",)
    assert comparison.notes[0].startswith('the recipes differ in "a": augment.cutout (')


def test_reports_that_decide_by_different_metrics_are_refused() -> None:
    one, other = study_of("a"), study_of("a", metric="nll")
    with pytest.raises(UsageError, match="nll"):
        compare(analyze(one, planted(one)), analyze(other, planted(other)))


def test_fewer_than_three_seeds_have_no_verdict() -> None:
    comparison = both(study_of("a", seeds=2), {"a": -9.0})
    assert row(comparison, "a").verdict == ""
    assert not comparison.worse


def test_a_comparison_survives_json() -> None:
    comparison = both(study_of("a", seeds=1), {})
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
