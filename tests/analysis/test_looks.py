from __future__ import annotations

import pytest

from harness.analysis import Analysis, Effect, analyze, look_decisions
from harness.stats import sequential_p
from harness.stats.sequential import look_statistics
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.study import Study
from harness.study.trial import Trial
from tests.intervals import repeated_interval
from tests.planted import IMAGES, planted, replaced, study_of, switched, without

LOOKS = [5, 10]


def effect(analysis: Analysis, term: str) -> Effect:
    (found,) = [
        e for e in analysis.effects if (e.kind, e.term, e.metric) == ("arm", term, "accuracy")
    ]
    return found


def upto(trials: list[Trial], seeds: int) -> list[Trial]:
    return [one for one in trials if one.seed < seeds]


@pytest.fixture
def study() -> Study:
    return study_of("clear", "vague", looks=LOOKS)


@pytest.fixture
def trials(study: Study) -> list[Trial]:
    """One arm that a look at 5 seeds resolves, one that it does not."""
    return planted(study, {"clear": 5.0, "vague": 0.4}, sd=0.4)


def test_before_the_first_look_every_arm_is_in(study: Study, trials: list[Trial]) -> None:
    assert look_decisions(study, upto(trials, 4)) == {"reference", "clear", "vague"}


def test_at_a_look_the_undecided_arms_and_their_reference_go_on(
    study: Study, trials: list[Trial]
) -> None:
    assert look_decisions(study, upto(trials, 5)) == {"reference", "vague"}


def test_after_the_last_look_nobody_goes_on(study: Study, trials: list[Trial]) -> None:
    rest = without(trials, study, "clear", *range(5, 10))
    assert look_decisions(study, rest) == set()
    assert analyze(study, rest).finished


def test_a_look_waits_for_every_arm_that_is_in(study: Study, trials: list[Trial]) -> None:
    short = without(upto(trials, 5), study, "vague", 2)
    assert look_decisions(study, short) == {"reference", "clear", "vague"}
    assert effect(analyze(study, short), "clear").verdict == ""


def test_trials_beyond_a_look_do_not_change_its_decision(study: Study, trials: list[Trial]) -> None:
    early = [
        t.model_copy(update={"metrics": {"accuracy": 0.1}}) if t.seed > 5 else t
        for t in upto(trials, 9)
    ]
    assert look_decisions(study, early) == look_decisions(study, upto(trials, 5))


def test_the_decision_does_not_depend_on_the_order_of_records(
    study: Study, trials: list[Trial]
) -> None:
    assert look_decisions(study, upto(trials, 5)[::-1]) == look_decisions(study, upto(trials, 5))


def test_between_looks_an_arm_still_in_has_neither_p_nor_verdict(
    study: Study, trials: list[Trial]
) -> None:
    analysis = analyze(study, upto(trials, 8))
    vague = effect(analysis, "vague")
    assert (vague.p, vague.p_holm, vague.p_equivalence, vague.verdict) == (None, None, None, "")
    assert vague.note == "between looks (1 of 2 reached)"
    assert (vague.n, analysis.looks_reached, analysis.finished) == (5, 1, False)
    assert set(analysis.arms_in) == {"reference", "vague"}


def test_an_arm_that_left_keeps_its_verdict_and_says_at_which_look(
    study: Study, trials: list[Trial]
) -> None:
    clear = effect(analyze(study, upto(trials, 8)), "clear")
    assert (clear.verdict, clear.note, clear.n) == ("better", "stopped at look 1 of 2", 5)


def test_an_arm_that_left_is_judged_on_the_seeds_of_its_look_alone(
    study: Study, trials: list[Trial]
) -> None:
    assert (
        effect(analyze(study, trials), "clear").differences
        == effect(analyze(study, upto(trials, 5)), "clear").differences
    )


def test_p_values_are_sequential_and_intervals_repeated(study: Study, trials: list[Trial]) -> None:
    vague = effect(analyze(study, trials), "vague")
    assert vague.n == 10
    assert vague.p == pytest.approx(sequential_p(look_statistics(vague.differences, LOOKS), LOOKS))
    assert (vague.low, vague.high) == pytest.approx(repeated_interval(vague.differences, LOOKS, 1))


def test_an_equivalent_arm_leaves(study: Study) -> None:
    trials = planted(study, {"vague": 0.5}, sd=0.05)
    assert effect(analyze(study, upto(trials, 5)), "clear").verdict == "equivalent"
    assert "clear" not in look_decisions(study, upto(trials, 5))


def test_an_unstable_arm_leaves(study: Study, trials: list[Trial]) -> None:
    assert "vague" not in look_decisions(
        study, replaced(upto(trials, 5), study, "vague", 2, state="diverged")
    )


def test_an_arm_that_others_are_compared_with_stays_in_for_them() -> None:
    study = switched("both", "a", "b", "c", seeds=10, looks=LOOKS)
    effects = dict.fromkeys(["none", "only-b", "only-c"], -9.0)
    effects |= {
        "no-a": 9.0,
        "no-b": 9.0,
        "no-c": 9.0,
        "only-a": -8.7,
        "only-b": -5.0,
        "only-c": -5.0,
    }
    trials = upto(planted(study, effects, sd=0.4), 5)
    assert effect(analyze(study, trials), "none").verdict == "worse"
    assert look_decisions(study, trials) == {"reference", "none", "only-a"}


def test_a_factorial_keeps_every_arm_until_all_are_decided() -> None:
    study = switched("factorial", "a", "b", seeds=10, looks=LOOKS)
    trials = upto(planted(study, {"no-a": -9.0, "none": -9.0, "no-b": 0.35}, sd=0.4), 5)
    assert look_decisions(study, trials) == {arm.name for arm in arms(study)}


def test_the_cells_of_the_next_look_are_those_of_the_arms_still_in(
    study: Study, trials: list[Trial]
) -> None:
    done = {one.cell for one in upto(trials, 5)}
    due = cells(study, IMAGES, arms_in=look_decisions(study, upto(trials, 5)), upto_seed=10)
    assert len([cell for cell in due if cell.key not in done]) == 2 * 5


def test_without_looks_every_arm_is_in_until_the_study_is_complete() -> None:
    study = study_of("a", seeds=4)
    trials = planted(study, {"a": 9.0})
    assert look_decisions(study, trials[:-1]) == {"reference", "a"}
    assert look_decisions(study, trials) == set()


def test_the_gap_is_tested_at_the_boundary_that_was_declared() -> None:
    for boundary in ("wang-tsiatis", "pocock"):
        study = study_of("a", looks=LOOKS, boundary=boundary)
        trials = upto(planted(study, {"a": 5.0}, sd=0.4), 5)
        (gap,) = [e for e in analyze(study, trials).effects if (e.term, e.metric) == ("a", "gap")]
        path = look_statistics(gap.differences, LOOKS)
        expected = sequential_p(path, LOOKS, boundary=boundary)
        assert gap.p == pytest.approx(expected)


def test_a_single_arm_has_its_level_whatever_the_looks() -> None:
    study = study_of(looks=LOOKS)
    analysis = analyze(study, planted(study))
    (level,) = [one for one in analysis.summaries if one.metric == "accuracy"]
    assert (analysis.seeds, level.n) == (tuple(range(10)), 10)
