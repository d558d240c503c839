"""Spaces of a search: what a file may say, all its faults at once, and where the reference lies in one."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import StudyError
from harness.study.profiles import PROFILES
from harness.study.recipe import Recipe
from harness.study.space import choose, overrides, place_of
from harness.study.study import Study, load_study, parse_study

OPTIMISERS = {"optimizer.name": {"choices": ["adam", "sgd"]}}
MOMENTS = {
    "schedule.cycle_momentum": {"choices": [True, False], "when": {"optimizer.name": ["sgd"]}}
}


def study(space: dict[str, Any], **more: Any) -> Study:
    return parse_study(
        {"question": "Which?", "margin_pp": 1.0, "seeds": 3, "space": space, **more}, name="search"
    )


def faults(space: dict[str, Any], **more: Any) -> str:
    with pytest.raises(StudyError) as raised:
        study(space, **more)
    return raised.value.message


def test_dotted_names_may_be_tables_in_tables() -> None:
    nested = study(
        {
            "schedule": {"max_lr": {"low": 1e-4, "high": 1e-2, "log": True}},
            "model": {"blocks": {"low": 2, "high": 4}},
        }
    )
    assert list(nested.space) == ["schedule.max_lr", "model.blocks"]


def test_a_space_survives_the_file_it_is_written_to() -> None:
    import tomllib

    first = study(
        {
            **OPTIMISERS,
            **MOMENTS,
            "both": {"field": ["augment.hue", "augment.contrast"], "low": 0, "high": 0.2},
        }
    )
    assert parse_study(tomllib.loads(first.to_toml()), name="search") == first


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (
            {"model.blocks": {"low": 2, "high": 5, "step": 2}},
            "step: does not lead from low to high",
        ),
        ({"model.blocks": {"low": 2, "high": 4, "step": 0.5}}, "step: should be a whole number"),
        (
            {"model.blocks": {"low": 2.5, "high": 4}},
            "model.blocks: model.blocks: should be a whole number",
        ),
        (
            {"schedule.max_lr": {"low": 0.1, "high": 0.3, "log": True, "step": 0.1}},
            "takes either log or step",
        ),
        ({"model.dropout": {"choices": [0.1, 0.1]}}, "choices: names a value twice"),
        (
            {"model.dropout": {"choices": [[0.1], [0.2]]}},
            "choices: should be numbers, texts, or true and false",
        ),
        ({"data.split_seed": {"low": 0, "high": 4}}, "decides which images are compared"),
        ({"dummy": {"field": "model.dropout", "low": 0, "high": 0.5}}, "the name is taken"),
        (
            {"model.dropout": {"low": 0, "high": 0.5, "when": {"optimizer.nam": "sgd"}}},
            "the space has no entry 'optimizer.nam'",
        ),
        (
            {
                **OPTIMISERS,
                "model.dropout": {"low": 0, "high": 0.5, "when": {"optimizer.name": "adamw"}},
            },
            "never has 'adamw'",
        ),
        (
            {
                **OPTIMISERS,
                "model.dropout": {"low": 0, "high": 0.5, "when": {"optimizer.name": []}},
            },
            "names no value",
        ),
        (
            {
                "optimizer.name": {"choices": ["adam", "sgd"], "when": {"augment.flip": "none"}},
                "augment.flip": {"choices": ["none", "random"], "when": {"optimizer.name": "sgd"}},
            },
            "depends on itself",
        ),
        (
            {
                "a": {"field": "model.dropout", "low": 0, "high": 0.5},
                "model.dropout": {"low": 0, "high": 0.6},
            },
            "sets model.dropout as space.a does",
        ),
    ],
)
def test_a_space_that_cannot_be_says_why(space: dict[str, Any], told: str) -> None:
    assert told in faults(space)


def test_all_faults_of_a_space_come_at_once() -> None:
    message = faults(
        {
            "model.blocs": {"low": 2, "high": 3},
            "model.dropout": {"low": 0.5, "high": 0.1},
            "augment.hue": {"low": 0, "high": 3},
        }
    )
    assert "3 faults" in message
    assert all(
        name in message
        for name in ("space.model.blocs", "space.model.dropout", "space.augment.hue")
    )


def test_two_entries_may_set_one_field_under_conditions_that_exclude_each_other() -> None:
    space = study(
        {
            **OPTIMISERS,
            "adam_lr": {
                "field": "schedule.max_lr",
                "low": 1e-4,
                "high": 1e-2,
                "log": True,
                "when": {"optimizer.name": "adam"},
            },
            "sgd_lr": {
                "field": "schedule.max_lr",
                "low": 1e-2,
                "high": 1.0,
                "log": True,
                "when": {"optimizer.name": "sgd"},
            },
        }
    ).space
    chosen = choose(space, lambda _, entry: "sgd" if entry.choices else entry.high)
    assert chosen == {"optimizer.name": "sgd", "sgd_lr": 1.0}
    assert overrides(space, chosen) == {"optimizer.name": "sgd", "schedule.max_lr": 1.0}


def test_an_entry_whose_condition_is_not_met_takes_no_part_wherever_it_stands() -> None:
    space = study({**MOMENTS, **OPTIMISERS}).space
    assert choose(space, lambda _, entry: entry.choices[0]) == {"optimizer.name": "adam"}


def test_the_place_of_the_reference_is_its_own_values() -> None:
    space = study({"model.blocks": {"low": 4, "high": 8}, **OPTIMISERS, **MOMENTS}).space
    assert place_of(space, Recipe()) == ({"model.blocks": 6, "optimizer.name": "adam"}, [])


def test_a_space_that_cannot_hold_the_reference_says_which_entries() -> None:
    space = study(
        {
            "model.blocks": {"low": 7, "high": 8},
            "model.width": {"low": 0.25, "high": 2.25, "step": 0.5},
            "both": {"field": ["augment.hue", "augment.cutout"], "low": 0, "high": 0},
        }
        | {"both": {"field": ["augment.hue", "augment.mixup"], "low": 0, "high": 0.5}}
    ).space
    told = place_of(space, Recipe())[1]
    assert [fault.partition(":")[0] for fault in told] == [
        "space.model.blocks",
        "space.model.width",
        "space.both",
    ]


def test_a_profile_changes_adds_and_drops_entries_and_rules() -> None:
    changed = study(
        {"model.dropout": {"low": 0, "high": 0.5}, "augment.hue": {"low": 0, "high": 0.2}},
        search={"trials": 9},
        profiles={
            "quick": {
                "search": {"sampler": "random"},
                "space": {
                    "model": {"dropout": {"choices": [0.1, 0.25]}},
                    "augment.hue": {"drop": True},
                    "model.blocks": {"low": 2, "high": 3},
                },
            }
        },
    ).under("quick")
    assert (changed.search.trials, changed.search.sampler) == (9, "random")
    assert list(changed.space) == ["model.dropout", "model.blocks"]
    assert changed.space["model.dropout"].choices == (0.1, 0.25)


def test_dropping_an_entry_that_is_not_there_is_a_fault() -> None:
    message = faults(
        {"model.dropout": {"low": 0, "high": 0.5}},
        profiles={"quick": {"space": {"model.dropot": {"drop": True}}}},
    )
    assert "did you mean 'model.dropout'" in message


@pytest.mark.parametrize("profile", PROFILES)
def test_the_built_in_space_holds_the_reference_of_every_profile(profile: str) -> None:
    resolved = load_study("tune").under(profile)
    assert place_of(resolved.space, resolved.base_recipe)[1] == []


def test_numbers_from_an_interval_are_kept_to_four_digits_within_it() -> None:
    space = study({"model.dropout": {"low": 0.1, "high": 0.43216}}).space
    assert overrides(space, {"model.dropout": 0.432159}) == {"model.dropout": 0.43216}
    assert overrides(space, {"model.dropout": 0.3333333}) == {"model.dropout": 0.3333}
