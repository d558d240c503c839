from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import RecipeError
from harness.study.recipe import Recipe, digest, fields, flatten, parse_assignment, shown

NAMES = list(Recipe().flat())
# field: (values that it just holds, values just outside)
BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "data.name": (["x"], ["", 3, None]),
    "data.size": ([0, 1024], [-1, 1025, 1.5, True]),
    "data.train": ([0, 10**6], [-1]),
    "data.val": ([0, 10**6], [-1]),
    "data.split_seed": ([0, 2**40], [-1]),
    "augment.crop": ([0, 64], [-1, 65]),
    "augment.crop_mode": (["reflect", "zero"], ["edge", 0]),
    "augment.flip": (["none", "random", "alternating"], ["vertical", True]),
    "augment.brightness": ([0, 1], [-0.01, 1.01, "0.1"]),
    "augment.contrast": ([0, 1], [-0.01, 1.01]),
    "augment.saturation": ([0, 1], [-0.01, 1.01]),
    "augment.hue": ([0, 0.5], [-0.01, 0.51]),
    "augment.cutout": ([0, 512], [-1, 513]),
    "augment.erasing": ([0, 1], [-0.01, 1.01]),
    "augment.mixup": ([0, 10], [-0.01, 10.1]),
    "augment.cutmix": ([0, 10], [-0.01, 10.1]),
    "model.name": (
        ["blocknet", "net.py:Net", "torchvision:resnet18", "timm:resnet18.a1_in1k"],
        ["resnet18", "net.py:", ":Net"],
    ),
    "model.blocks": ([1, 16], [0, 17, 2.0]),
    "model.channels": (
        ["auto", [1, 2, 3, 4, 5, 6]],
        [[0, 1, 1, 1, 1, 1], [1.5], [], [1], "automatic", 3, [[1]]],
    ),
    "model.pool": (["auto", [], [6], [1, 2, 3]], [[0], [7], [-1], "none"]),
    "model.width": ([0.01, 8], [0, -1, 8.1]),
    "model.hidden": ([1, 65_536], [0, 65_537]),
    "model.dropout": ([0, 0.99], [-0.01, 1]),
    "model.head": (["logits", "softmax"], ["sigmoid"]),
    "model.features": (["last", "concat"], ["first"]),
    "model.freeze": (["none", "backbone", "conv1,layer1"], ["", 3]),
    "model.backbone_lr": ([0.01, 1], [0, 1.01]),
    "optimizer.name": (["adam", "adamw", "sgd", "own.py:Lion"], ["lion", ""]),
    "optimizer.weight_decay": ([0, 10], [-1e-9, 10.1]),
    "optimizer.grad_clip": ([0, 1e9], [-0.1]),
    "optimizer.grad_clip_by": (["value", "norm"], ["max"]),
    "schedule.name": (["one-cycle", "cosine", "constant", "own.py:linear"], ["onecycle"]),
    "schedule.max_lr": ([1e-9, 100], [0, -1, 100.1]),
    "schedule.pct_start": ([0.01, 0.99], [0, 1]),
    "schedule.div": ([1, 1e9], [0.9]),
    "schedule.final_div": ([1, 1e9], [0.9]),
    "schedule.cycle_momentum": ([True, False], [1, "yes"]),
    "loss.name": (["cross-entropy", "own.py:focal"], ["focal"]),
    "loss.label_smoothing": ([0, 0.99], [-0.1, 1]),
    "train.epochs": ([1, 10_000], [0, 10_001, "3"]),
    "train.batch_size": ([2, 65_536], [1, 65_537]),
    "train.precision": (["fp32", "bf16"], ["fp16"]),
    "train.threads": ([0, 1024], [-1, 1025]),
}


def test_every_field_has_its_bounds_tested() -> None:
    assert set(BOUNDS) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (inside, _) in BOUNDS.items() for value in inside],
    ids=str,
)
def test_a_field_holds_the_values_within_its_bounds(name: str, value: Any) -> None:
    held = Recipe().with_overrides({name: value}).flat()[name]
    assert held == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (_, outside) in BOUNDS.items() for value in outside],
    ids=str,
)
def test_a_field_refuses_the_values_outside_its_bounds_by_name(name: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().with_overrides({name: value})
    assert caught.value.message.startswith((f"{name}: ", "model: "))
    assert caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name", [name for name, value in Recipe().flat().items() if type(value) is float]
)
def test_no_number_may_be_infinite_or_missing(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=name):
        Recipe().with_overrides({name: value})


def test_a_misspelt_field_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        RecipeError, match=r"augment\.crp: no such recipe field \(did you mean 'augment\.crop'\?\)"
    ):
        Recipe().with_overrides({"augment.crp": 4})


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().with_overrides(
            {"augment.crp": 4, "model.dropout": -0.5, "train.epochs": "ten", "model.head": "none"}
        )
    assert all(
        word in caught.value.message
        for word in ("augment.crp", "model.dropout", "train.epochs", "'ten'", "model.head")
    )


def test_channels_and_pools_must_agree_with_the_number_of_blocks() -> None:
    with pytest.raises(RecipeError, match="channels names 2 blocks and blocks is 3"):
        Recipe().with_overrides({"model.blocks": 3, "model.channels": [8, 16]})
    with pytest.raises(RecipeError, match="pool names block 4 and there are 3"):
        Recipe().with_overrides({"model.blocks": 3, "model.pool": [1, 4]})


# --- identity
# ---------------------------------------------------------------------------------------------------------


def test_the_identity_of_the_reference_and_of_a_changed_recipe_never_changes() -> None:
    # When this fails because a default was changed, SCHEMA in recipe.py has to be bumped with these
    # numbers.
    assert Recipe().id == "35db209b118ab7ce"
    assert (
        Recipe().with_overrides({"augment.crop": 0, "model.channels": [1, 2, 3, 4, 5, 6]}).id
        == "3c9e16e6d2818c52"
    )


def test_the_identity_does_not_depend_on_the_order_of_overrides() -> None:
    changes = {"train.epochs": 3, "augment.flip": "none", "model.width": 0.5, "data.val": 7}
    assert (
        Recipe().with_overrides(changes).id
        == Recipe().with_overrides(dict(reversed(changes.items()))).id
    )


@pytest.mark.parametrize(("whole", "point"), [(1, 1.0), (0, 0.0), (0, -0.0)])
def test_a_number_has_one_identity_whether_written_with_a_point_or_not(
    whole: int, point: float
) -> None:
    assert Recipe().with_overrides(
        {"augment.hue": 0, "augment.mixup": whole, "optimizer.weight_decay": whole}
    ) == (
        Recipe().with_overrides(
            {"augment.hue": 0.0, "augment.mixup": point, "optimizer.weight_decay": point}
        )
    )
    first, second = (
        Recipe().with_overrides({"optimizer.weight_decay": value}).id for value in (whole, point)
    )
    assert first == second


def test_a_default_written_out_changes_nothing() -> None:
    assert Recipe().with_overrides(Recipe().flat()).id == Recipe().id
    assert Recipe().changed() == {}


def test_an_override_back_to_the_default_is_undone() -> None:
    assert (
        Recipe().with_overrides({"augment.crop": 0}).with_overrides({"augment.crop": 4}) == Recipe()
    )


def test_different_recipes_have_different_identities() -> None:
    ids = {
        Recipe().with_overrides({name: value}).id
        for name, (inside, _) in BOUNDS.items()
        for value in inside
    }
    distinct = {
        json.dumps(Recipe().with_overrides({n: v}).changed())
        for n, (inside, _) in BOUNDS.items()
        for v in inside
    }
    assert len(ids) == len(distinct)


def test_the_identity_is_the_same_in_another_process() -> None:
    code = "from harness.study.recipe import Recipe; print(Recipe().with_overrides({'train.epochs': 7, 'augment.hue': 0.3}).id, end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == Recipe().with_overrides({"augment.hue": 0.3, "train.epochs": 7}).id


def test_the_difference_names_every_field_with_both_values() -> None:
    other = Recipe().with_overrides({"augment.crop": 0, "model.head": "softmax"})
    assert Recipe().difference(other) == {
        "augment.crop": (4, 0),
        "model.head": ("logits", "softmax"),
    }


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
anything = st.recursive(
    values,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)
overrides = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), anything, max_size=6)
valid = st.fixed_dictionaries(
    {},
    optional={
        # a plug-in takes other fields away
        name: st.sampled_from([value for value in inside if ":" not in str(value)])
        for name, (inside, _) in BOUNDS.items()
        if name not in ("model.channels", "model.pool")
    },
)


@given(overrides)
@example({"train.epochs": int("f" * 6000, 16)})
@example({"model.channels": [10**400]})
@example({"optimizer.grad_clip": 10**400})
def test_whatever_is_overridden_gives_a_recipe_or_a_recipe_error(changes: dict[str, Any]) -> None:
    try:
        recipe = Recipe().with_overrides(changes)
    except RecipeError as error:
        assert len(error.message) < 5000  # noqa: PT017 - either outcome is right
    else:
        assert len(recipe.id) == 16


@given(valid)
def test_a_recipe_survives_json_with_its_identity(changes: dict[str, Any]) -> None:
    recipe = Recipe().with_overrides(changes)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(json.loads(recipe.model_dump_json())).id == recipe.id


@given(valid)
def test_a_recipe_is_rebuilt_from_its_changed_fields(changes: dict[str, Any]) -> None:
    recipe = Recipe().with_overrides(changes)
    assert Recipe().with_overrides(json.loads(json.dumps(recipe.changed()))) == recipe


# --- text in, text out
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epochs=10", ("train.epochs", 10)),
        (" train.epochs = 10 ", ("train.epochs", 10)),
        ("augment.hue=1e-2", ("augment.hue", 0.01)),
        ("augment.flip=none", ("augment.flip", "none")),
        ('augment.flip="none"', ("augment.flip", "none")),
        ("schedule.cycle_momentum=false", ("schedule.cycle_momentum", False)),
        ("model.channels=[8, 16]", ("model.channels", [8, 16])),
        ("data.name=/some/where=else", ("data.name", "/some/where=else")),
        ("data.name=", ("data.name", "")),
        ("data.name=a\nb=3", ("data.name", "a\nb=3")),
        ("train.epochs=1\ntrain.batch_size=3", ("train.epochs", "1\ntrain.batch_size=3")),
    ],
)
def test_an_assignment_is_a_name_and_a_toml_value_or_a_bare_word(
    text: str, expected: tuple[str, Any]
) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["", "train.epochs", "=3", "  =3"])
def test_an_assignment_without_name_or_value_is_a_recipe_error(text: str) -> None:
    with pytest.raises(RecipeError, match="field=value") as caught:
        parse_assignment(text)
    assert "--set" in caught.value.hint


@given(st.text())
@example("a=" + "9" * 5000)
@example("a=" + "[" * 5000)
@example("a={" + "b." * 3000 + "c=1}")
def test_whatever_is_assigned_gives_a_value_or_a_recipe_error(text: str) -> None:
    try:
        name, _ = parse_assignment(text)
    except RecipeError:
        return
    assert name == name.strip() != ""


def test_flattening_joins_nested_and_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c.d": {"e": [2]}}, "f.g": 3}) == {
        "a.b": 1,
        "a.c.d.e": [2],
        "f.g": 3,
    }


def test_the_table_of_fields_names_every_field_with_type_default_and_meaning() -> None:
    table = fields()
    assert list(table) == NAMES
    assert {name: default for name, (_, default, _) in table.items()} == Recipe().flat()
    assert all(words and meaning for words, _, meaning in table.values())
    assert table["augment.hue"][0] == "number >= 0, <= 0.5"
    assert table["model.head"][0] == "logits | softmax"


def test_a_digest_is_cut_from_the_sha256_of_canonical_json() -> None:
    assert digest({}) == "44136fa355b3678a"
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert len(digest("x", length=8)) == 8


def test_what_is_shown_of_a_value_is_short_whatever_it_is() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert [len(shown(value)) <= 60 for value in (10**5000, deep, "x" * 1000, {"a": 1})] == [
        True
    ] * 4
    assert shown("x") == "'x'"


def test_a_field_of_named_values_lists_them_and_a_list_says_so() -> None:
    words = {name: field[0] for name, field in fields().items()}
    assert words["train.precision"] == "fp32 | bf16 | auto"
    assert words["model.pool"] == "auto or list of whole numbers"
