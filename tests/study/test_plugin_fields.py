"""Recipe fields that lead to the user's code: how they are set, left behind, refused, and what they do to identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecipeError, StudyError
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.fingerprints import cell_code, plugins_of, study_code
from harness.study.plugin_fields import self_standing
from harness.study.recipe import Recipe
from harness.study.study import Study, parse_study

OWN = {"model.name": "net.py:Net", "model.kwargs.depth": 3}
POSTERIZE = {"augment.own.posterize": "aug.py:posterize", "augment.kwargs.posterize.bits": 4}


def made(**fields: Any) -> Recipe:
    return Recipe().with_overrides(
        {name.replace("__", "."): value for name, value in fields.items()}
    )


def study(**keys: Any) -> Study:
    return parse_study(
        {"question": "Is it so?", "margin_pp": 1.0, "seeds": 2, **keys}, name="asked"
    )


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "aug.py"):
        (tmp_path / name).write_text("def f(): ...\n")
    return tmp_path


def test_a_keyword_argument_is_a_field_of_the_recipe_and_part_of_its_identity() -> None:
    recipe = Recipe().with_overrides(OWN)
    assert recipe.changed() == OWN
    assert recipe.flat()["model.kwargs.depth"] == 3
    assert (
        len({recipe.id, Recipe().id, Recipe().with_overrides({**OWN, "model.kwargs.depth": 4}).id})
        == 3
    )


@pytest.mark.parametrize(
    "fields",
    [OWN, POSTERIZE, {**OWN, "model.kwargs.sizes": [1, [2, 3]], "model.kwargs.a": "b"}],
    ids=str,
)
def test_a_recipe_with_them_survives_its_own_json_and_its_own_differences(
    fields: dict[str, Any],
) -> None:
    recipe = Recipe().with_overrides(fields)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe().with_overrides(recipe.changed()) == recipe
    assert hash(recipe) == hash(Recipe().with_overrides(dict(reversed(fields.items()))))


def test_an_augmentation_that_is_off_is_absent_with_its_arguments() -> None:
    assert Recipe().with_overrides({**POSTERIZE, "augment.own.posterize": "none"}) == Recipe()
    on = Recipe().with_overrides(POSTERIZE)
    assert on.with_overrides({"augment.own.posterize": "none"}).id == Recipe().id
    assert on.difference(Recipe()) == {"augment.own.posterize": ("aug.py:posterize", "none")}


def test_the_fields_of_blocknet_say_nothing_about_another_net() -> None:
    assert not {"model.blocks", "model.dropout"} & Recipe().with_overrides(OWN).flat().keys()


def test_naming_another_net_leaves_the_fields_of_the_former_behind() -> None:
    ours = made(model__blocks=3, model__width=0.5)
    theirs = ours.with_overrides(OWN)
    assert theirs.changed() == OWN
    assert theirs.with_overrides({"model.name": "blocknet"}) == Recipe()
    assert theirs.with_overrides({"model.name": "other.py:Net"}).changed() == {
        "model.name": "other.py:Net"
    }


def test_a_difference_names_only_what_says_something_there() -> None:
    ours = made(model__blocks=3)
    assert set(ours.difference(Recipe().with_overrides(OWN))) == set(OWN)
    assert ours.difference(Recipe().with_overrides(OWN))["model.kwargs.depth"] == (None, 3)
    assert set(Recipe().with_overrides(OWN).difference(ours)) == {"model.name", "model.blocks"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**OWN, "model.blocks": 3}, "blocks would not reach 'net.py:Net', only blocknet"),
        # the default, and yet set by hand
        ({**OWN, "model.dropout": 0.25}, "dropout would not reach"),
        (
            {"loss.name": "own.py:focal", "loss.label_smoothing": 0.1},
            "label_smoothing would not reach",
        ),
        ({"schedule.name": "own.py:f", "schedule.pct_start": 0.1}, "pct_start would not reach"),
        (
            {"model.kwargs.depth": 3},
            "kwargs are for code of your own, and model.name is 'blocknet'",
        ),
        ({"data.kwargs.part": 1}, "data.name is 'cifar10'"),
        ({**OWN, "model.kwargs.a-b": 1}, "'a-b' is not a name for a keyword argument"),
        ({**OWN, "model.kwargs.a": {}}, "should be a number, a text, true or false"),
        ({**OWN, "model.kwargs.a": float("nan")}, "a should be finite"),
        ({"augment.own.a": "posterize"}, "own.a should be file.py:function, or 'none'"),
        ({"augment.own.a-b": "aug.py:f"}, "own.a-b: an augmentation's name has"),
        ({**POSTERIZE, "augment.kwargs.posterise.bits": 4}, "did you mean 'posterize'"),
        ({"augment.kwargs.bits": 4}, "it reads augment.kwargs.OWN.NAME"),
        ({"model.kwarg.depth": 3}, "did you mean 'model.kwargs.depth'"),
        ({"model.kwargs.": 3}, "no such recipe field"),
        ({"model.name": "resnet18"}, r"should be blocknet or FILE.py:NAME \(given: 'resnet18'\)"),
    ],
    ids=str,
)
def test_what_would_never_be_seen_is_one_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe().with_overrides(fields)
    assert ";" not in caught.value.message.replace("; its own", "").replace(
        "; it reads", ""
    ).replace("; use", "").replace("; augment", "")


def test_a_broken_base_is_reported_once_and_not_again_at_every_factor() -> None:
    factor = {"name": "deep", "field": "model.kwargs.depth", "off": 1, "on": 3}
    with pytest.raises(StudyError, match=r"set augment\.own\.a as well") as caught:
        study(base={**OWN, "augment.kwargs.a.bits": 2}, factors=[factor], design="leave-one-out")
    assert "factors" not in caught.value.message


def test_the_sizes_of_a_built_in_profile_are_left_out_for_a_net_of_the_users() -> None:
    assert study(base=OWN).under("quick").base_recipe.model.kwargs == (("depth", 3),)
    assert "model.blocks" not in study(base=OWN).under("quick").base
    assert study().under("quick", overrides=OWN).base_recipe.model.name == "net.py:Net"
    assert (
        study(base=OWN)
        .under("quick", overrides={"model.name": "blocknet"})
        .base_recipe.model.blocks
        == 3
    )


def test_an_arm_may_be_another_net_than_the_baselines() -> None:
    asked = study(arms=[{"name": "mine", "set": OWN}]).under("quick")
    baseline, mine = arms(asked)
    assert baseline.recipe.model.blocks == 3
    assert dict(mine.overrides) == OWN


def test_arguments_and_augmentations_are_ablated_as_any_field() -> None:
    factors = [
        {"name": "deep", "field": "model.kwargs.depth", "off": 1, "on": 3},
        {
            "name": "posterize",
            "field": "augment.own.posterize",
            "off": "none",
            "on": "aug.py:posterize",
        },
    ]
    asked = study(base=OWN, factors=factors, design="leave-one-out").under("quick")
    found = {arm.name: dict(arm.overrides) for arm in arms(asked)}
    assert found == {
        "reference": {},
        "no-deep": {"model.kwargs.depth": 1},
        "no-posterize": {"augment.own.posterize": "none"},
    }


def test_a_sweep_of_an_argument_has_one_arm_a_level() -> None:
    factor = {"name": "depth", "field": "model.kwargs.depth", "levels": [1, 2, 3]}
    assert [arm.name for arm in arms(study(base=OWN, factors=[factor], design="sweep"))] == [
        "reference",
        "depth=1",
        "depth=2",
    ]


def test_a_sweep_or_a_search_of_an_argument_begins_at_a_value() -> None:
    factor = {"name": "depth", "field": "model.kwargs.depth", "levels": [1, 2]}
    with pytest.raises(
        StudyError, match=r"model.kwargs.depth has no value in \[base\], and a sweep begins at one"
    ):
        study(base={"model.name": "net.py:Net"}, factors=[factor], design="sweep")
    with pytest.raises(
        StudyError, match=r"model.kwargs.depth has no value in \[base\], and a search begins at one"
    ):
        study(
            base={"model.name": "net.py:Net"}, space={"model.kwargs.depth": {"low": 1, "high": 3}}
        )
    with pytest.raises(StudyError, match=r"model\.blocks says nothing to the plug-in"):
        study(base=OWN, space={"model.blocks": {"low": 1, "high": 3}})


def test_a_search_takes_whole_numbers_for_an_argument_that_is_one() -> None:
    assert (
        study(base=OWN, space={"model.kwargs.depth": {"low": 1, "high": 3}})
        .space["model.kwargs.depth"]
        .low
        == 1
    )


def test_the_plug_ins_of_a_study_are_those_of_its_metric_arms_and_space(files: Path) -> None:
    (files / "m.py").write_text("def metric(p, y): return 0.0\n")
    asked = study(
        metric="m.py:metric",
        base=OWN,
        arms=[{"name": "posterized", "set": POSTERIZE}],
        space={"optimizer.name": {"choices": ["adam", "opt.py:Lion"]}},
    )
    assert plugins_of(asked) == {
        "m.py:metric": "metric",
        "net.py:Net": "model.name",
        "aug.py:posterize": "augment.own.posterize",
        "opt.py:Lion": "optimizer.name",
    }


def test_editing_an_augmentation_makes_new_cells_of_the_arms_that_have_it_and_of_no_other(
    files: Path,
) -> None:
    asked = study(arms=[{"name": "posterized", "set": POSTERIZE}])

    def keys() -> tuple[set[str], set[str], str]:
        planned = arms(asked)
        codes = {arm.recipe.id: cell_code(asked, arm.recipe) for arm in planned}
        found = cells(asked, "images", codes)
        plain, posterized = (
            {cell.key for cell in found if cell.recipe == arm.recipe} for arm in planned
        )
        return plain, posterized, study_code(asked)

    before = keys()
    (files / "aug.py").write_text("def f(): ...  # edited\n")
    after = keys()
    assert before[0] == after[0] == {cell.key for cell in cells(study(), "images")}
    assert not before[1] & after[1]
    assert before[2] != after[2]


def test_overrides_of_arguments_bring_what_they_are_arguments_of_so_that_any_recipe_takes_them() -> (
    None
):
    base = Recipe().with_overrides({**OWN, **POSTERIZE, "model.kwargs.width": 8}).flat()
    found = self_standing({"model.kwargs.depth": 5, "augment.kwargs.posterize.bits": 2}, base)
    assert found == {
        "model.name": "net.py:Net",
        "model.kwargs.depth": 5,
        "model.kwargs.width": 8,
        "augment.own.posterize": "aug.py:posterize",
        "augment.kwargs.posterize.bits": 2,
    }
    assert Recipe().with_overrides(found).changed() == found
    assert self_standing({"train.epochs": 3}, base) == {"train.epochs": 3}


def test_a_net_of_torchvision_has_no_code_of_the_users() -> None:
    recipe = Recipe().with_overrides({"model.name": "torchvision:resnet18"})
    assert recipe.plugins() == {"model.name": "torchvision:resnet18"}
    assert cell_code(study(), recipe) == ""
