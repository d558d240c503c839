"""Numbers, intervals and sentences, each template by itself."""

from __future__ import annotations

import dataclasses

import pytest

from harness.analysis import Analysis, Check, analyze
from harness.report import Material, answer, support, words
from harness.text import plural
from tests.report import planted


def analysed(material: Material) -> Analysis:
    return analyze(
        material.study, material.trials, curves=material.curves, screening=material.screening
    )


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (1.234, "pp", True, "+1.23"),
        (-1.235, "pp", True, "−1.24"),
        (-0.001, "pp", True, "0.00"),
        (0.0, "pp", True, "0.00"),
        (78.0, "pp", False, "78.00"),
        (-0.5, "1", False, "−0.500"),
        (None, "pp", True, ""),
    ],
)
def test_a_number_has_its_sign_and_its_decimals(
    value: float | None, unit: str, signed: bool, text: str
) -> None:
    assert words.number(value, unit, signed=signed) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 seeds"), (1, "1 seed"), (2, "2 seeds"), (10_000, "10,000 seeds")]
)
def test_singular_and_plural_are_right(count: int, text: str) -> None:
    assert plural(count, "seed") == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (list("abcd"), "a, b, c and d"),
        (list("abcdef"), "a, b, c and 3 more"),
    ],
)
def test_a_list_of_names_reads_as_a_sentence_does(names: list[str], text: str) -> None:
    assert words.listed(names) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.834, "0.83 s"), (42.2, "42 s"), (420.0, "7 min"), (11_400.0, "3 h 10 min")],
)
def test_a_duration_has_the_precision_that_is_of_use(value: float, text: str) -> None:
    assert words.seconds(value) == text


def test_without_a_trial_there_is_no_answer_yet() -> None:
    material = dataclasses.replace(planted.one_arm(), trials=())
    assert answer(analysed(material)) == "No answer yet: no trial has finished."


def test_when_every_trial_diverged_the_answer_says_so() -> None:
    assert (
        answer(analysed(planted.all_failed()))
        == "No answer: none of 6 trials ran to the end (6 diverged)."
    )


def test_one_arm_is_told_to_compare_nothing() -> None:
    told = answer(analysed(planted.one_arm()))
    assert told.startswith(
        "Nothing is compared: the study has one arm, reference, whose validation accuracy is 7"
    )
    assert told.endswith("(95 % t, n = 5).")


def test_a_screening_judges_nobody() -> None:
    material = dataclasses.replace(planted.augmentations(), screening=True)
    assert answer(analysed(material)).startswith("No verdict: this is a screening")


def test_two_seeds_are_too_few_for_a_verdict() -> None:
    hand = [{"name": "low", "set": {"model.dropout": 0.1}}]
    material = planted.material(planted.study_of({"design": "arms", "arms": hand, "seeds": 2}))
    assert "verdict" in answer(analysed(material))
    assert answer(analysed(material)).startswith("No verdict")


def test_the_answer_names_what_is_better_worse_equivalent_and_unresolved_with_one_interval_each() -> (
    None
):
    hand = [
        {"name": name, "set": {"model.dropout": value}}
        for name, value in (("up", 0.1), ("down", 0.4), ("same", 0.3))
    ]
    study = planted.study_of({"design": "arms", "arms": hand, "seeds": 8, "margin_pp": 2.0})
    effects = {"up": planted.Planted(6.0), "down": planted.Planted(-6.0)}
    told = answer(analysed(planted.material(study, planted.Plan(effects=effects, images=False))))
    assert told.startswith("Compared with reference, up (+")
    assert ") raises validation accuracy; down (−" in told
    assert ") lowers it; same changes it by less than 2 pp (equivalent). " in told
    assert told.endswith(" Intervals: 95 % t, n = 8, for new seeds on these images.")


def test_when_nothing_is_resolved_the_answer_says_so_and_what_it_would_take() -> None:
    hand = [
        {"name": name, "set": {"model.dropout": value}} for name, value in (("a", 0.1), ("b", 0.4))
    ]
    study = planted.study_of({"design": "arms", "arms": hand, "seeds": 5, "margin_pp": 0.1})
    told = answer(analysed(planted.material(study, planted.Plan(sd=1.5, images=False))))
    assert told.startswith("Nothing is resolved: the largest difference in validation accuracy is ")
    assert "(95 % t, n = 5, for new seeds on these images)" in told
    assert "to settle" in told or "would have shown" in told


def test_an_arm_that_is_not_judged_is_not_the_largest_difference() -> None:
    hand = [
        {"name": name, "set": {"model.dropout": value}} for name, value in (("a", 0.1), ("b", 0.4))
    ]
    study = planted.study_of({"design": "arms", "arms": hand, "seeds": 5, "margin_pp": 0.1})
    analysis = analysed(planted.material(study, planted.Plan(sd=1.5, images=False)))
    effects = tuple(
        effect.model_copy(update={"verdict": "", "estimate": 50.0})
        if effect.term == "a"
        else effect
        for effect in analysis.effects
    )
    told = answer(analysis.model_copy(update={"effects": effects}))
    assert "the largest difference in validation accuracy is b, " in told


def test_a_failed_check_without_any_verdict_is_the_answer() -> None:
    analysis = analysed(planted.augmentations())
    bare = tuple(effect.model_copy(update={"verdict": ""}) for effect in analysis.effects)
    check = Check(level="fail", name="chance", what="every arm is at chance")
    told = answer(analysis.model_copy(update={"effects": bare, "checks": (check,)}))
    assert told == "No verdict: every arm is at chance."


def test_a_factorial_is_answered_by_its_main_effects() -> None:
    told = answer(analysed(planted.factorial(3)))
    assert told.startswith("Averaged over all settings of the others, crop (+")
    assert " raise validation accuracy" in told


def test_an_arm_called_none_is_quoted_in_a_sentence() -> None:
    arm = {"name": "none", "set": {"model.dropout": 0.6}}
    study = planted.study_of({"design": "arms", "arms": [arm]})
    plan = planted.Plan(effects={"none": planted.Planted(-6.0)})
    assert '"none" (−' in answer(analysed(planted.material(study, plan)))


def test_intervals_under_declared_looks_are_called_repeated() -> None:
    assert "95 % repeated t" in answer(analysed(planted.with_looks()))


def test_the_gap_sentence_names_kind_n_and_family() -> None:
    sentence = support(analysed(planted.augmentations()))[0]
    assert sentence.startswith("Added alone to a recipe without any of them, crop (−")
    assert " narrow the overfitting gap" in sentence
    assert sentence.endswith(" Intervals: 95 % t, n = 8, Holm over 8 arms.")


def test_a_remark_becomes_a_sentence_with_true_minus_signs() -> None:
    assert (
        words.sentence("drop clip: with it equivalent, -0.20 pp")
        == "Drop clip: with it equivalent, −0.20 pp."
    )
