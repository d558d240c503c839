from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from harness.errors import StudyError, UsageError
from harness.study.arms import arms, switches
from harness.study.cells import CONTROL_OFFSET, cells, seeds
from harness.study.files import available_studies
from harness.study.fraction import alias_table, fraction
from harness.study.study import load_study
from tests.planted import study_of, switched

FRACTIONS = range(4, 17)


def signs(factors: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Runs by factors, 1 for on and -1 for off."""
    return np.where(np.array(fraction(factors).runs), 1, -1)


@pytest.mark.parametrize("factors", FRACTIONS)
def test_a_fraction_has_fewer_runs_than_the_full_factorial_and_no_run_twice(factors: int) -> None:
    runs = fraction(factors).runs
    assert len(set(runs)) == len(runs) < 2**factors


@pytest.mark.parametrize("factors", FRACTIONS)
def test_a_fraction_starts_with_every_factor_on(factors: int) -> None:
    assert fraction(factors).runs[0] == (True,) * factors


@pytest.mark.parametrize("factors", FRACTIONS)
def test_main_effects_of_a_fraction_are_clear_of_each_other_and_of_pairs(factors: int) -> None:
    x = signs(factors)
    pairs = np.stack([x[:, i] * x[:, j] for i, j in combinations(range(factors), 2)], axis=1)
    assert np.array_equal(x.T @ x, len(x) * np.eye(factors, dtype=int))
    assert not (x.T @ pairs).any()


@pytest.mark.parametrize("factors", FRACTIONS)
def test_the_resolution_of_a_fraction_is_the_length_of_its_shortest_constant_product(
    factors: int,
) -> None:
    x, claimed = signs(factors), fraction(factors).resolution

    def constant(length: int) -> bool:
        return any(
            abs(x[:, list(word)].prod(axis=1).sum()) == len(x)
            for word in combinations(range(factors), length)
        )

    assert claimed >= 4
    assert constant(claimed)
    assert not any(constant(length) for length in range(1, claimed))


def test_five_factors_get_resolution_five() -> None:
    assert fraction(5).resolution == 5


@pytest.mark.parametrize("factors", [1, 3, 17])
def test_a_fraction_of_too_few_or_too_many_factors_is_refused(factors: int) -> None:
    with pytest.raises(StudyError, match="4 to 16"):
        fraction(factors)


def test_aliased_interactions_have_the_same_column_of_signs() -> None:
    study = switched("fraction", "a", "b", "c", "d", "e", "f")
    on = np.where(np.array(list(switches(study, arms(study)).values())), 1, -1)
    column = {factor.name: on[:, k] for k, factor in enumerate(study.factors)}
    groups = [(alias.term, *alias.with_) for alias in alias_table(study) if len(alias.term) == 2]
    for group in groups:
        products = [column[one] * column[other] for one, other in group]
        assert all(np.array_equal(products[0], product) for product in products)
    listed = [pair for group in groups for pair in group]
    assert sorted(listed) == sorted(combinations(column, 2))


def test_main_effects_are_aliased_with_three_factor_interactions_alone() -> None:
    study = switched("fraction", "a", "b", "c", "d")
    mains = [alias for alias in alias_table(study) if len(alias.term) == 1]
    assert [alias.term for alias in mains] == [("a",), ("b",), ("c",), ("d",)]
    assert mains[3].with_ == (("a", "b", "c"),)


def test_a_full_factorial_has_no_alias_table() -> None:
    assert alias_table(switched("factorial", "a", "b")) == ()


def test_a_factorial_has_every_combination_once_and_the_baseline_first() -> None:
    study = switched("factorial", "a", "b", "c")
    on = switches(study, arms(study))
    assert len(set(on.values())) == len(on) == 8
    assert next(iter(on.values())) == (True, True, True)
    assert [arm.name for arm in arms(study)][-1] == "none"


def test_a_factorial_of_six_factors_is_refused_with_the_fraction_as_hint() -> None:
    with pytest.raises(StudyError) as caught:
        arms(switched("factorial", "a", "b", "c", "d", "e", "f"))
    assert "fraction" in caught.value.hint


def test_a_leave_one_out_arm_differs_from_the_baseline_in_its_factor_alone() -> None:
    study = switched("leave-one-out", "a", "b", "c")
    found = {arm.name: set(arm.overrides) for arm in arms(study)}
    assert found == {
        "reference": set(),
        "no-a": {"augment.crop"},
        "no-b": {"augment.brightness"},
        "no-c": {"augment.cutout"},
    }


def test_add_one_in_arms_are_compared_with_the_arm_that_has_nothing() -> None:
    references = {arm.name: arm.reference for arm in arms(switched("both", "a", "b", "c"))}
    assert references["only-a"] == references["only-b"] == "none"
    assert references["none"] == references["no-a"] == "reference"


def test_with_two_factors_an_arm_that_would_come_twice_comes_once() -> None:
    assert [arm.name for arm in arms(switched("both", "a", "b"))] == [
        "reference",
        "no-a",
        "no-b",
        "none",
    ]


def test_a_sweeps_level_that_is_the_base_is_the_baseline() -> None:
    levels = {
        "factors": [{"name": "drop", "field": "model.dropout", "levels": [0.0, 0.25, 0.5]}],
        "arms": [],
    }
    found = arms(study_of(design="sweep", **levels))
    assert [arm.name for arm in found] == ["reference", "drop=0", "drop=0.5"]
    assert found[0].components == {"drop": 0.25}


@pytest.mark.parametrize(
    ("design", "arm"), [("both", "no-drop"), ("add-one-in", "none"), ("leave-one-out", "no-drop")]
)
def test_a_single_factor_is_switched_off_once_in_every_design(design: str, arm: str) -> None:
    factor = {"name": "drop", "field": "model.dropout", "off": 0.0, "on": 0.25}
    found = arms(study_of(design=design, factors=[factor], arms=[]))
    assert [one.name for one in found] == ["reference", arm]


def test_two_arms_with_one_recipe_are_refused() -> None:
    twins = [
        {"name": "one", "set": {"augment.cutout": 3}},
        {"name": "other", "set": {"augment.cutout": 3}},
    ]
    with pytest.raises(StudyError, match="that of 'one', so nothing is compared"):
        arms(study_of(arms=twins))
    with pytest.raises(StudyError, match="same recipe"):  # only the baseline's default tells
        arms(study_of(arms=[{"name": "same", "set": {"augment.crop": 4}}]))


def test_an_arm_that_a_changed_base_makes_the_baseline_is_left_out_while_others_are_left() -> None:
    bare, half = (
        {"name": "bare", "set": {"model.dropout": 0.0}},
        {"name": "half", "set": {"model.dropout": 0.5}},
    )
    changed = {"model.dropout": 0.0}
    both = study_of(arms=[bare, half]).under("quick", overrides=changed)
    assert [arm.name for arm in arms(both)] == ["reference", "half"]
    with pytest.raises(StudyError, match="same recipe"):
        arms(study_of(arms=[bare]).under("quick", overrides=changed))


def test_cells_come_seed_by_seed() -> None:
    found = cells(study_of("a", "b", seeds=3), "images")
    assert [cell.seed for cell in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_cells_up_to_a_look_are_the_first_of_all_cells() -> None:
    study = study_of("a", "b", seeds=4, looks=[2, 4])
    assert cells(study, "images", upto_seed=2) == cells(study, "images")[:6]


def test_cells_of_the_arms_still_in_keep_their_keys() -> None:
    study = study_of("a", "b", seeds=2)
    some = cells(study, "images", arms_in={"reference", "b"})
    everything = {cell.key: cell for cell in cells(study, "images")}
    assert len(some) == 4
    assert all(everything[cell.key] == cell for cell in some)


def test_the_control_arm_runs_the_baseline_at_seeds_far_away() -> None:
    study = study_of("a", seeds=2, control=True)
    baseline = arms(study)[0].recipe.id
    assert [cell.seed for cell in cells(study, "images") if cell.recipe.id == baseline] == [
        0,
        CONTROL_OFFSET,
        1,
        CONTROL_OFFSET + 1,
    ]


def test_cells_of_an_unknown_arm_are_refused() -> None:
    with pytest.raises(UsageError, match="'c'"):
        cells(study_of("a"), "images", arms_in={"c"})


@pytest.mark.parametrize("profile", ["quick", "small", "medium", "full"])
@pytest.mark.parametrize("name", sorted(available_studies()))
def test_every_built_in_study_has_arms_cells_and_a_layout_under_every_profile(
    name: str, profile: str
) -> None:
    study = load_study(name).under(profile)
    planned = arms(study)
    side = {"quick": 14, "small": 16, "medium": 32, "full": 32}[profile]
    assert len(cells(study, "images")) == len(planned) * len(seeds(study))
    assert all(arm.recipe.model.layout(side)[0] for arm in planned)
    assert study.why


# that one keeps no validation images
@pytest.mark.parametrize("name", sorted(set(available_studies()) - {"reference"}))
def test_every_built_in_study_shares_its_baseline_with_the_others_in_quick(name: str) -> None:
    assert (
        arms(load_study(name).under("quick"))[0].recipe
        == arms(load_study("augmentations").under("quick"))[0].recipe
    )


def test_claims_is_a_factorial_of_three() -> None:
    study = load_study("claims").under("quick")
    assert len(arms(study)) == 8
    assert {factor.name for factor in study.factors} == {"weight-decay", "grad-clip", "one-cycle"}
