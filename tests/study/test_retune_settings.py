"""Retuned ablations: which settings are tried, what is chosen, and the study that comes of it."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, StudyError
from harness.study.arms import arms
from harness.study.retune_settings import (
    RETUNING_SEED,
    ChosenSetting,
    at,
    check_metric,
    choose,
    is_retuning,
    most_trials,
    retuned_study,
    retuning_cells,
    retuning_study,
    settings,
)
from harness.study.space import Dimension
from harness.study.study import Study, parse_study
from harness.study.trial import Cell, State, Trial

RATE = {"low": 1e-3, "high": 1e-1, "log": True}
DECAY = {"low": 1e-6, "high": 1e-1, "log": True}
RAW: dict[str, Any] = {
    "question": "Does crop matter once the rate is retuned?",
    "margin_pp": 1.0,
    "seeds": 4,
    "design": "leave-one-out",
    "factors": [
        {"name": "crop", "field": "augment.crop", "off": 0, "on": 4},
        {"name": "hue", "field": "augment.hue", "off": 0, "on": 0.1},
    ],
    "arms": [{"name": "cutout", "set": {"augment.cutout": 4}}],
    "space": {
        "schedule.max_lr": RATE,
        "optimizer.weight_decay": DECAY,
        "optimizer.name": {"choices": ["adam", "adamw"]},
    },
    "search": {"retune_trials": 5},
    "retune": ["schedule.max_lr", "optimizer.weight_decay"],
}


def study(**changes: Any) -> Study:
    return parse_study({**RAW, **changes}, name="planted")


def trial_of(cell: Cell, state: State = "complete", **metrics: float) -> Trial:
    return Trial(
        cell=cell.key, seed=cell.seed, recipe=cell.recipe, state=state, metrics=metrics, epochs=30
    )


def scored(which: Study, score: dict[tuple[str, int], float]) -> list[Trial]:
    """Every arm at every setting: .5, or what is given for (arm, setting)."""
    places = {
        arm.recipe.with_overrides(one): (arm.name, place)
        for arm in arms(which)
        for place, one in enumerate(settings(which))
    }
    return [
        trial_of(cell, accuracy=score.get(places[cell.recipe], 0.5))
        for cell in retuning_cells(which, "images")
    ]


def test_the_first_setting_is_the_arm_as_it_is() -> None:
    assert settings(study())[0] == {}


def test_there_are_as_many_settings_as_the_budget_and_all_differ() -> None:
    found = settings(study())
    assert len(found) == 5
    assert len({arms(study())[0].recipe.with_overrides(one) for one in found}) == 5


def test_a_setting_holds_the_entries_that_are_retuned_and_no_other() -> None:
    assert all(one.keys() == set(RAW["retune"]) for one in settings(study())[1:])


def test_a_larger_budget_tries_the_same_settings_and_more() -> None:
    assert settings(study(search={"retune_trials": 9}))[:5] == settings(study())


def test_a_space_of_few_choices_is_tried_whole_and_once() -> None:
    found = settings(study(retune="optimizer.name", search={"retune_trials": 8}))
    assert found == ({}, {"optimizer.name": "adamw"})


def test_settings_spread_over_the_whole_of_an_interval() -> None:
    found = [one["schedule.max_lr"] for one in settings(study(search={"retune_trials": 17}))[1:]]
    quarters = {int(4 * math.log(value / 1e-3) / math.log(100)) for value in found}
    assert quarters == {0, 1, 2, 3}


def test_an_entry_of_several_fields_moves_them_together() -> None:
    entry = {"field": ["augment.brightness", "augment.contrast"], "low": 0, "high": 0.4}
    found = settings(study(space={**RAW["space"], "jitter": entry}, retune=["jitter"]))
    assert all(one["augment.brightness"] == one["augment.contrast"] for one in found[1:])


@given(
    share=st.floats(0, 1, exclude_max=True),
    low=st.integers(0, 3),
    span=st.integers(1, 6),
    step=st.sampled_from([None, 1.0]),
)
def test_a_value_of_a_whole_entry_is_one_of_its_whole_numbers(
    share: float, low: int, span: int, step: float | None
) -> None:
    value = at(Dimension(low=low, high=low + span, step=step), share, whole=True)
    assert isinstance(value, int)
    assert low <= value <= low + span


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_value_lies_in_its_entry(share: float) -> None:
    for entry in (
        Dimension(low=1e-5, high=0.3, log=True),
        Dimension(low=0.1, high=0.7, step=0.2),
        Dimension(choices=("a", "b")),
    ):
        assert entry.holds(at(entry, share))


@pytest.mark.parametrize(("share", "value"), [(0.0, 1e-4), (0.5, 1e-2), (0.25, 1e-3)])
def test_a_logarithmic_entry_is_spread_evenly_over_its_decades(share: float, value: float) -> None:
    assert at(Dimension(low=1e-4, high=1.0, log=True), share) == pytest.approx(value)


def test_every_arm_has_the_same_budget() -> None:
    which = study()
    tried = [cell.recipe for cell in retuning_cells(which, "images")]
    per_arm = [
        sum(arm.recipe.with_overrides(one) in tried for one in settings(which))
        for arm in arms(which)
    ]
    assert per_arm == [5] * 4
    assert len(tried) == len(set(tried)) == 20


def test_all_arms_as_they_are_come_first() -> None:
    which = study()
    assert [cell.recipe for cell in retuning_cells(which, "images")][:4] == [
        arm.recipe for arm in arms(which)
    ]


def test_settings_are_tried_at_a_seed_and_under_keys_of_their_own() -> None:
    which = study()
    found = retuning_cells(which, "images")
    assert {cell.seed for cell in found} == {RETUNING_SEED}
    assert is_retuning(found)
    assert not {cell.key for cell in found} & {
        Cell.of(cell.recipe, cell.seed, "images").key for cell in found
    }


def test_a_new_arm_leaves_what_the_others_were_tried_at_as_it_was() -> None:
    more = study(arms=[*RAW["arms"], {"name": "bare", "set": {"augment.flip": "none"}}])
    assert {cell.key for cell in retuning_cells(study(), "images")} < {
        cell.key for cell in retuning_cells(more, "images")
    }


def test_the_best_setting_of_an_arm_is_chosen_for_it_alone() -> None:
    chosen = choose(study(), scored(study(), {("cutout", 3): 0.6, ("reference", 1): 0.7}))
    tried = settings(study())
    assert {one.arm: one.setting for one in chosen} == {
        "reference": tried[1],
        "no-crop": {},
        "no-hue": {},
        "cutout": tried[3],
    }


def test_of_equal_settings_the_arm_as_it_is_stays() -> None:
    assert all(
        not one.setting and one.score == one.as_is == 0.5
        for one in choose(study(), scored(study(), {}))
    )


def test_the_lowest_is_the_best_of_a_metric_that_should_be_low() -> None:
    which = study(metric="nll")
    trials = [
        one.model_copy(update={"metrics": {"nll": one.metrics["accuracy"]}})
        for one in scored(which, {("cutout", 2): 0.4})
    ]
    assert (
        next(one for one in choose(which, trials) if one.arm == "cutout").setting
        == settings(which)[2]
    )


def test_a_setting_that_diverged_is_never_chosen_and_an_arm_without_any_stays_as_it_is() -> None:
    which = study()
    trials = [
        one.model_copy(update={"state": "diverged", "metrics": {}})
        for one in scored(which, {("cutout", 2): 0.9})
    ]
    assert choose(which, trials)[-1] == ChosenSetting("cutout", {}, None, None, 0, 5)


def test_trials_of_the_studys_own_seeds_choose_nothing() -> None:
    cell = Cell.of(arms(study())[0].recipe.with_overrides(settings(study())[1]), 0, "images")
    assert choose(study(), [trial_of(cell, accuracy=0.99)])[0].final == 0


@pytest.mark.parametrize("design", ["leave-one-out", "add-one-in", "both", "factorial"])
def test_a_retuned_study_has_the_same_arms_references_and_rules(design: str) -> None:
    which = study(design=design)
    over = retuned_study(
        which, choose(which, scored(which, {("cutout", 3): 0.6, ("none", 2): 0.7}))
    )
    assert "cutout" in over.settings
    assert [(one.name, one.reference, dict(one.components)) for one in arms(over)] == [
        (one.name, one.reference, dict(one.components)) for one in arms(which)
    ]
    assert (over.seeds, over.margin_pp, over.metric, over.retune) == (
        which.seeds,
        which.margin_pp,
        which.metric,
        (),
    )
    assert over.name == "planted-retuned"


def test_a_retuned_arm_is_the_arm_at_its_setting_and_one_that_stays_is_the_same_recipe() -> None:
    which = study()
    over = retuned_study(which, choose(which, scored(which, {("cutout", 3): 0.6})))
    before, after = ({arm.name: arm.recipe for arm in arms(one)} for one in (which, over))
    assert after["cutout"] == before["cutout"].with_overrides(settings(which)[3])
    assert {name for name in before if after[name] != before[name]} == {"cutout"}


def test_a_retuned_study_reads_back_from_its_file() -> None:
    which = study().under("quick")
    over = retuned_study(which, choose(which, scored(which, {("cutout", 3): 0.6})))
    assert parse_study(tomllib.loads(over.to_toml()), name=over.name) == over


def test_settings_of_an_arm_that_is_not_there_are_refused() -> None:
    with pytest.raises(StudyError, match=r"no arm 'cutuot'.*did you mean 'cutout'"):
        arms(study().model_copy(update={"settings": {"cutuot": {"schedule.max_lr": 0.01}}}))


def test_the_folders_of_a_retuned_study_are_apart() -> None:
    which = study().under("quick")
    folders = {which.folder, retuning_study(which).folder, retuned_study(which, ()).folder}
    assert folders == {"planted-quick", "planted-retuning-quick", "planted-retuned-quick"}


def test_what_retuning_adds_at_most_counts_settings_and_seeds_of_every_arm() -> None:
    assert most_trials(study()) == 4 * (5 + 4)
    assert most_trials(study(retune=[])) == 0


def test_a_study_without_retune_keeps_its_recipes_and_its_file() -> None:
    plain = study(retune=[])
    assert not {"retune", "settings"} & tomllib.loads(plain.to_toml()).keys()
    assert [arm.recipe for arm in arms(plain)] == [arm.recipe for arm in arms(study())]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"retune": ["schedule.maxlr"]},
            "no entry 'schedule.maxlr' .did you mean 'schedule.max_lr'",
        ),
        ({"retune": ["schedule.max_lr", "schedule.max_lr"]}, "'schedule.max_lr' is named twice"),
        (
            {"retune": ["augment.crop"], "space": {"augment.crop": {"low": 0, "high": 4}}},
            r"would undo factors\[crop\]",
        ),
        (
            {"retune": ["cut"], "space": {"cut": {"field": "augment.cutout", "low": 0, "high": 8}}},
            r"would undo arms\[cutout\]",
        ),
        (
            {"retune": ["train.epochs"], "space": {"train.epochs": {"low": 5, "high": 60}}},
            "budgets would not be equal",
        ),
        (
            {
                "retune": ["schedule.cycle_momentum"],
                "space": {
                    "optimizer.name": {"choices": ["adam", "sgd"]},
                    "schedule.cycle_momentum": {
                        "choices": [True, False],
                        "when": {"optimizer.name": "sgd"},
                    },
                },
            },
            "has a condition, so not every arm",
        ),
        ({"design": "arms", "factors": [], "arms": []}, "the study has no arms"),
        ({"search": {"retune_trials": 1}}, "search.retune_trials"),
        (
            {"profiles": {"quick": {"space": {"optimizer.weight_decay": {"drop": True}}}}},
            "profile quick: retune",
        ),
    ],
)
def test_what_cannot_be_retuned_is_refused_in_the_file(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        study(**changes)


@pytest.mark.parametrize(
    ("metric", "told"),
    [("gap", "has no better end"), ("test_accuracy", "the test set would choose")],
)
def test_a_metric_that_cannot_choose_is_refused(metric: str, told: str) -> None:
    with pytest.raises(HarnessError, match=told):
        check_metric(study(metric=metric))


def test_a_setting_that_an_arm_cannot_have_is_refused_with_the_arms_name() -> None:
    which = study(
        arms=[{"name": "narrow", "set": {"model.channels": [8, 8, 8, 8, 8, 8]}}],
        space={"model.blocks": {"low": 3, "high": 6}},
        retune=["model.blocks"],
        profiles={name: {"model.blocks": 6} for name in ("quick", "small")},
    )
    with pytest.raises(StudyError, match="narrow: "):
        settings(which)
