from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import analyze
from harness.comparison import SPEED, Comparison, Difference, compare
from harness.design import arms
from harness.errors import UsageError
from harness.study import Study
from harness.trial import Environment, Trial
from tests.planted import HOME, planted, study_of


def row(comparison: Comparison, arm: str, metric: str = "accuracy") -> Difference:
    (found,) = [d for d in comparison.differences if (d.arm, d.metric) == (arm, metric)]
    return found


def both(study: Study, effects: dict[str, float], *, other: Study | None = None) -> Comparison:
    second = other or study
    return compare(analyze(study, planted(study, sd=0.1)), analyze(second, planted(second, effects, sd=0.1, rng=1)))


def paced(trials: list[Trial], factor: float) -> list[Trial]:
    rng = np.random.default_rng(int(100 * factor))
    return [t.model_copy(update={"images_per_second": 1000 * factor * (1 + 0.01 * rng.standard_normal())}) for t in trials]


def test_a_report_is_equivalent_to_itself_and_not_worse() -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study))
    comparison = compare(analysis, analysis)
    assert {d.verdict for d in comparison.differences if d.metric != "gap"} == {"equivalent"}
    assert not comparison.worse


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
        return [100 * t.metrics["accuracy"] for t in trials if t.recipe_id == arms(study)[1].recipe.id]

    expected = scipy_stats.ttest_ind(scores(eight, other), scores(ten, one), equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert [found.p, found.low, found.high] == pytest.approx([expected.pvalue, low, high])


def test_throughput_is_a_ratio_with_an_interval() -> None:
    study = study_of("a")
    slow = compare(analyze(study, paced(planted(study), 1.0)), analyze(study, paced(planted(study), 0.8)))
    found = row(slow, "a", SPEED)
    assert found.unit == "%"
    assert found.estimate == pytest.approx(-20, abs=1)
    assert found.verdict == "worse"
    assert slow.worse


def test_a_change_of_speed_within_five_percent_is_equivalent() -> None:
    study = study_of("a")
    found = row(compare(analyze(study, paced(planted(study), 1.0)), analyze(study, paced(planted(study), 0.98))), "a", SPEED)
    assert found.verdict == "equivalent"
    assert log(1 + (found.estimate or 0) / 100) == pytest.approx(log(0.98), abs=0.01)


def test_speed_on_another_machine_is_shown_and_not_judged() -> None:
    study = study_of("a")
    away = Environment(**{**HOME.model_dump(), "cpu": "another box"})
    there = [t.model_copy(update={"environment": away}) for t in paced(planted(study), 0.5)]
    comparison = compare(analyze(study, paced(planted(study), 1.0)), analyze(study, there))
    assert row(comparison, "a", SPEED).verdict == ""
    assert not comparison.worse
    assert any("different environments" in note for note in comparison.notes)


def test_the_gap_has_an_interval_and_no_verdict() -> None:
    study = study_of("a")
    found = row(compare(analyze(study, planted(study)), analyze(study, planted(study, gaps={"a": 4.0}, rng=1))), "a", "gap")
    assert found.low is not None
    assert found.low > 3
    assert found.verdict == ""


def test_arms_are_matched_by_name_then_by_recipe_and_the_rest_is_listed() -> None:
    one = study_of("a", "gone")
    other = study_of(arms=[{"name": "renamed", "set": {"augment.cutout": 1}}, {"name": "new", "set": {"augment.cutout": 9}}])
    comparison = compare(analyze(one, planted(one)), analyze(other, planted(other)))
    assert {d.arm for d in comparison.differences} == {"reference", "a"}
    assert (comparison.only_a, comparison.only_b) == (("gone",), ("new",))


def test_an_arm_whose_recipe_changed_is_told() -> None:
    one, other = study_of("a"), study_of(arms=[{"name": "a", "set": {"augment.cutout": 9}}])
    assert "a: the recipes differ" in compare(analyze(one, planted(one)), analyze(other, planted(other))).notes


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
