from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, StudyError, UsageError
from harness.study.arms import arms
from harness.study.files import available_studies
from harness.study.profiles import PROFILES, builtin_profiles
from harness.study.recipe import Recipe
from harness.study.recipe_fields import AugmentRecipe, DataRecipe
from harness.study.study import Study, find_study, load_study, parse_study

ROOT = Path(__file__).parent.parent.parent
BUILT_IN = sorted(path.stem for path in (ROOT / "studies").glob("*.toml"))

MINIMAL: dict[str, Any] = {
    "question": "Does it help?",
    "margin_pp": 1.0,
    "seeds": 3,
    "arms": [{"name": "a", "set": {"augment.crop": 0}}],
}
RICH: dict[str, Any] = {
    "schema": 1,
    "question": "Which parts?",
    "why": "to see",
    "design": "both",
    "baseline": "all of it",
    "metric": "accuracy",
    "alpha": 0.05,
    "margin_pp": 0.5,
    "seeds": 10,
    "looks": [5, 10],
    "control": True,
    "base": {"train": {"epochs": 20}, "model.width": 0.5},
    "factors": [
        {"name": "crop", "field": "augment.crop", "off": 0, "on": 4},
        {
            "name": "jitter",
            "field": ["augment.hue", "augment.contrast"],
            "off": 0,
            "on": [0.1, 0.2],
            "why": "colours",
        },
    ],
    "arms": [{"name": "cutout", "set": {"augment.cutout": 8}, "why": "strong"}],
    "space": {
        "schedule.max_lr": {"low": 1e-4, "high": 0.1, "log": True},
        "augment.flip": {"choices": ["none", "random"]},
    },
    "profiles": {
        "quick": {
            "seeds": 4,
            "factors": {"crop": {"on": 1}},
            "arms": {"cutout": {"set": {"augment.cutout": 4}}},
        },
        "tiny": {
            "train.epochs": 2,
            "data": {"name": "digits"},
            "margin_pp": 2.0,
            "arms": {"cutout": {"drop": True}},
        },
    },
}


def study(**changes: Any) -> Study:
    return parse_study({**MINIMAL, **changes}, name=changes.get("name", "test"))


def faults(raw: dict[str, Any], name: Any = "test") -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(raw, name=name)
    assert caught.value.hint
    return caught.value.message


# --- faults
# -----------------------------------------------------------------------------------------------------------


def test_all_faults_are_reported_at_once_each_with_its_path() -> None:
    message = faults(
        {
            "qestion": "typo",
            "margin_pp": "wide",
            "seeds": 0,
            "base": {"augment": {"crp": 4}, "model.dropout": -1},
            "factors": [{"name": "crop", "field": "augment.crop", "off": 0, "on": 400}],
            "arms": [{"name": "x", "set": {"trian.epochs": 3}}, {"set": {}}],
            "space": {"schedule.max_lr": {"lo": 1}},
        }
    )
    for part in (
        "qestion: no such key (did you mean 'question'?)",
        "question: is missing",
        "margin_pp: should be",
        "seeds: should be at least 1 and at most 10,000 (given: 0)",
        "base.augment.crp: no such recipe field (did you mean 'augment.crop'?)",
        "base.model.dropout: should be at least 0 and below 1",
        "factors[crop].on: augment.crop: should be at least 0 and at most 64",
        "arms[x].set.trian.epochs: no such recipe field (did you mean 'train.epochs'?)",
        "arms[1].name: is missing",
        "space.schedule.max_lr.lo: no such key (did you mean 'low'?)",
    ):
        assert part in message
    assert message.startswith("study has ")


def test_a_single_fault_is_one_sentence() -> None:
    assert (
        faults({**MINIMAL, "seeds": 0})
        == "study: seeds: should be at least 1 and at most 10,000 (given: 0)"
    )


def test_names_used_twice_are_listed_where_another_part_has_no_form() -> None:
    message = faults(
        {
            **MINIMAL,
            "seeds": "eight",
            "design": "both",
            "factors": [{"name": "drop", "field": "model.dropout", "off": 0.0, "on": 0.2}],
            "arms": [
                {"name": "bare", "set": {"augment.crop": 0}},
                {"name": "bare", "set": {"augment.crop": 1}},
                {"name": "no-drop", "set": {"augment.crop": 2}},
            ],
        }
    )
    for part in (
        "seeds: should be a whole number, at least 1 and at most 10,000 (given: 'eight')",
        "arms: the name 'bare' is used twice",
        "arms: 'no-drop' is the name of an arm that the design makes of its factors",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("question", 3, "should be text in quotes"),
        ("alpha", 0.7, "should be above 0 and below 0.5"),
        ("control", "yes", "should be true or false"),
        ("isolate", 4, "should be true, false or a list of files"),
        ("looks", [0], "should be at least 1"),
        ("search", 3, "should be a table"),
        ("factors", 3, "should be a list"),
        ("boundary", "none", "should be 'wang-tsiatis' or 'pocock'"),
        ("env", {"A-B": "x"}, "should be letters, digits and _"),
        ("question", "", "should be text of at least 1 character"),
    ],
)
def test_a_value_of_the_wrong_kind_is_answered_in_our_words(
    key: str, value: object, words: str
) -> None:
    message = faults({**MINIMAL, key: value})
    assert words in message
    assert "valid" not in message
    assert "Input" not in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seeds = ", "line 2, column 9: expected a value"),
        ("seeds 3", "line 2, column 7: expected = after the key"),
        ("[base", "line 2, column 6: expected ] after the name of a table"),
        ("seeds = 3\nseeds = 4", "line 3, column 10: this key has a value already"),
        ("[base]\n[base]", "line 3, column 6: this table is there already"),
        ("looks = [1, 2", "the end of the file: expected , or ] in a list"),
        ('arms = [{ name = "a" set = 3 }]', "line 2, column 22: expected , or }"),
        ('why = "x', "line 2, column 9: expected a quote at the end"),
        ('why = "a\\d"', "line 2, column 11: a backslash"),
        ("= 3", "line 2, column 1: expected `key = value` or a [table]"),
    ],
)
def test_a_file_that_is_not_toml_is_answered_with_its_place(
    tmp_path: Path, line: str, words: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"schema = 1\n{line}\n", encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(str(path))
    assert caught.value.message.startswith(f"{path}, {words}")


def test_a_file_with_a_byte_order_mark_reads_as_one_without(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('question = "why"\nmargin_pp = 1\nseeds = 3\n', encoding="utf-8-sig")
    assert load_study(str(path)).question == "why"


def test_a_name_that_is_a_file_here_is_answered_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    (tmp_path / "other.txt").touch()
    with pytest.raises(UsageError) as mine:
        find_study("mine")
    with pytest.raises(UsageError) as other:
        find_study("other.txt")
    assert "mine.toml is here" in mine.value.hint
    assert "ends in .toml" in other.value.hint


def test_faults_of_names_twins_and_profiles_are_listed_with_all_others() -> None:
    message = faults(
        {
            **MINIMAL,
            "base": {"model.dropuot": 0.1},
            "arms": [
                {"name": "bare", "set": {"model.dropout": 0.0}},
                {"name": "bare", "set": {"model.dropout": 0.1}},
                {"name": "twin", "set": {"model.dropout": 0.0}},
                {"name": "reference", "set": {"model.dropout": 0.2}},
            ],
            "profile": {"quick": {"seeds": 3}},
            "profiles": {"small": {"factors": {"b": {"on": 3}}}},
        }
    )
    for fault in (
        "profile: no such table (did you mean 'profiles'?)",
        "base.model.dropuot: no such recipe field (did you mean 'model.dropout'?)",
        "arms: the name 'bare' is used twice",
        "arms[twin].set: is that of 'bare', so nothing is compared",
        "arms: 'reference' is the baseline, which is no arm of its own",
        "profile small: profiles.small.factors.b: the study has no such factor",
    ):
        assert fault in message
    assert "has 6 faults" in message


def test_a_value_of_the_command_line_is_blamed_on_it() -> None:
    with pytest.raises(StudyError, match=r"--set train\.epoch: no such recipe field"):
        study().under("quick", overrides={"train.epoch": 3})


def test_a_broken_base_does_not_hide_the_faults_of_the_space() -> None:
    message = faults(
        {
            **MINIMAL,
            "base": {"model.dropout": 2},
            "space": {"train.epochs": {"low": 5.0, "high": 1.0}},
        }
    )
    assert "base.model.dropout" in message
    assert "space.train.epochs: needs choices, or low below high" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"arms": [{"name": "a", "set": {}}, {"name": "a", "set": {}}]},
            "arms: the name 'a' is used twice",
        ),
        ({"design": "both"}, "factors: design 'both' needs at least one"),
        (
            {"factors": [{"name": "f", "field": "augment.crop", "off": 0, "on": 4}]},
            "design: 'arms' takes [[arms]] only",
        ),
        (
            {"design": "both", "factors": [{"name": "f", "field": "augment.crop", "off": 0}]},
            "needs both off and on",
        ),
        (
            {"design": "sweep", "factors": [{"name": "f", "field": "augment.crop", "levels": [1]}]},
            "at least two levels",
        ),
        (
            {"design": "both", "factors": [{"name": "f", "field": [], "off": 0, "on": 1}]},
            "factors[0].field",
        ),
        (
            {
                "design": "both",
                "factors": [
                    {
                        "name": "f",
                        "field": ["augment.hue", "augment.crop"],
                        "off": 0,
                        "on": [1, 2, 3],
                    }
                ],
            },
            "factors[f].on: gives 3 values for 2 fields",
        ),
        ({"looks": [5, 3]}, "looks: should rise and end at seeds = 3"),
        ({"looks": [2]}, "looks: should rise and end at seeds = 3"),
        ({"looks": [0, 3]}, "looks[0]"),
        ({"alpha": 0.5}, "alpha"),
        ({"design": "leave-two-out"}, "design"),
        ({"schema": 2}, "schema"),
        (
            {"space": {"train.epochs": {"low": 1.0, "high": 1e9}}},
            "space.train.epochs: train.epochs: should be at",
        ),
        (
            {"space": {"schedule.max_lr": {"low": 0.0, "high": 1.0, "log": True}}},
            "log needs low above 0",
        ),
        (
            {"space": {"augment.flip": {"choices": ["none", "up"]}}},
            "space.augment.flip: augment.flip: should be 'none'",
        ),
        (
            {"space": {"augment.flip": {"choices": ["none"], "low": 1.0}}},
            "either choices or low and high",
        ),
        (
            {"space": {"augment.flop": {"low": 0.0, "high": 1.0}}},
            "no such recipe field (did you mean 'augment.flip'?)",
        ),
        (
            {"profiles": {"quick": {"factors": {"crop": {"on": 1}}}}},
            "profiles.quick.factors.crop: the study has no such factor",
        ),
        (
            {"profiles": {"quick": {"arms": {"b": {"drop": True}}}}},
            "profiles.quick.arms.b: the study has no such arm",
        ),
        (
            {"profiles": {"quick": {"arms": {"a": {"sett": {}}}}}},
            "profiles.quick.arms.a: should be a table with drop, set",
        ),
        ({"profiles": {"quick": {"arms": 3}}}, "profiles.quick.arms: should be a table of names"),
        ({"profiles": {"quick": {"seeds": "many"}}}, "profile quick: seeds"),
        (
            {"profiles": {"quick": {"data.nam": "x"}}},
            "profile quick: base.data.nam: no such recipe field (did you mean 'data.name'?)",
        ),
        ({"profiles": {"quick": 3}}, "profiles.quick"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_named_with_its_place(change: dict[str, Any], expected: str) -> None:
    assert expected in faults({**MINIMAL, **change})


def test_a_study_of_another_schema_is_refused_with_the_schema_that_is_read() -> None:
    raw = {**MINIMAL, "schema": 9, "arms": [{"name": "a", "set": {"augment.later": 1}}]}
    with pytest.raises(StudyError) as caught:
        parse_study(raw, name="s")
    assert "schema = 1" in caught.value.hint
    assert "show fields" not in caught.value.hint


BAD_FOLDERS = [
    "../up",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    " ",
    "a\nb",
    "a\x00b",
    "<b>x</b>",
    "-x",
    "ü",
    "a" * 81,
    "con:aux",
]


@pytest.mark.parametrize("name", [*BAD_FOLDERS, 3, None, ["x"]])
def test_a_study_whose_name_cannot_name_a_folder_is_refused(name: Any) -> None:
    assert "does not name a folder" in faults(MINIMAL, name=name)


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_profile_whose_name_cannot_name_a_folder_is_refused(name: str) -> None:
    assert "does not name a folder" in faults({**MINIMAL, "profiles": {name: {"seeds": 2}}})


@pytest.mark.parametrize("name", [name for name in BAD_FOLDERS if name])
def test_a_stored_profile_whose_name_cannot_name_a_folder_is_refused(name: str) -> None:
    assert "does not name a folder" in faults({**MINIMAL, "profile": name})


@pytest.mark.parametrize(
    "name", ["", "  ", "a\nb", "a\x1b[31m", "a\x00", "\u202eright to left", "x" * 61]
)
def test_an_arm_whose_name_cannot_be_printed_is_refused(name: str) -> None:
    assert "arms[0].name" in faults(
        {**MINIMAL, "arms": [{"name": name, "set": {"augment.crop": 0}}]}
    )


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "../x", "a/b", "50 % & more", "ohne Ausschnitt, größer"]
)
def test_an_arm_may_have_any_printable_name_as_no_file_is_named_after_it(name: str) -> None:
    found = study(arms=[{"name": name, "set": {"augment.crop": 0}}])
    assert found.arms[0].name == name
    assert name not in found.under("quick").folder


# --- profiles and precedence
# ------------------------------------------------------------------------------------------


def epochs(found: Study) -> dict[str, int]:
    """Return the epochs of every arm's recipe."""
    return {arm.name: arm.recipe.train.epochs for arm in arms(found)}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, {"reference": 30, "a": 30}),
        ({"built-in"}, {"reference": 24, "a": 24}),
        ({"built-in", "base"}, {"reference": 11, "a": 11}),
        ({"built-in", "base", "own"}, {"reference": 13, "a": 13}),
        ({"built-in", "base", "own", "set"}, {"reference": 14, "a": 14}),
        ({"built-in", "base", "own", "set", "arm"}, {"reference": 14, "a": 15}),
    ],
    ids=["reference", "built-in profile", "base", "own profile", "overrides", "arm"],
)
def test_each_layer_goes_before_the_one_below_it(
    layers: set[str], expected: dict[str, int]
) -> None:
    # full leaves the epochs alone, quick sets them
    profile = "quick" if "built-in" in layers else "full"
    found = study(
        base={"train.epochs": 11} if "base" in layers else {},
        arms=[
            {
                "name": "a",
                "set": {"augment.crop": 0, **({"train.epochs": 15} if "arm" in layers else {})},
            }
        ],
        profiles={profile: {"train.epochs": 13}} if "own" in layers else {},
    )
    assert (
        epochs(found.under(profile, overrides={"train.epochs": 14} if "set" in layers else {}))
        == expected
    )


def test_the_seeds_asked_for_go_before_those_of_every_profile() -> None:
    found = study(profiles={"quick": {"seeds": 4}})
    assert found.under("small").seeds == 3
    assert found.under("quick").seeds == 4
    assert found.under("quick", seeds=2).seeds == 2


def test_looks_fall_with_the_seeds_that_they_were_declared_for() -> None:
    found = study(seeds=10, looks=[5, 10], profiles={"quick": {"seeds": 4}})
    assert found.under("small").looks == (5, 10)
    assert found.under("quick").looks == ()
    assert found.under("full", seeds=10).looks == ()


def test_a_study_without_seeds_takes_those_of_the_profile() -> None:
    found = parse_study(
        {key: value for key, value in MINIMAL.items() if key != "seeds"}, name="test"
    )
    assert {profile: found.under(profile).seeds for profile in PROFILES} == {
        profile: fields["seeds"] for profile, fields in builtin_profiles().items()
    }


def test_a_study_with_looks_and_no_seeds_has_as_many_as_the_last_look() -> None:
    found = parse_study(
        {**{key: value for key, value in MINIMAL.items() if key != "seeds"}, "looks": [4, 6]},
        name="test",
    )
    assert (found.under("quick").seeds, found.under("quick").looks) == (6, (4, 6))


@pytest.mark.parametrize(
    "more",
    [
        {"profiles": {"tiny": {"train.epochs": 2}}},
        {"command": ["python", "t.py", "{seed}"], "arms": []},
    ],
)
def test_a_study_whose_seeds_nothing_says_is_refused(more: dict[str, Any]) -> None:
    assert "seeds: is missing" in faults(
        {**{key: value for key, value in MINIMAL.items() if key != "seeds"}, **more}
    )


@pytest.mark.parametrize("images", ["digits", "cifar100"])
def test_sizes_chosen_for_other_images_leave_a_study_with_its_own_images_alone(images: str) -> None:
    for profile in PROFILES:
        recipe = study(base={"data.name": images}, arms=[]).under(profile).base_recipe
        assert (recipe.data, recipe.augment) == (DataRecipe(name=images), AugmentRecipe())
    assert recipe.train == study(arms=[]).under("full").base_recipe.train


def test_sizes_chosen_for_other_images_fall_wherever_the_images_are_named() -> None:
    set_there = study(arms=[]).under("small", overrides={"data.name": "digits", "data.val": 300})
    in_profile = study(arms=[], profiles={"small": {"data": {"name": "digits", "val": 300}}}).under(
        "small"
    )
    wanted = DataRecipe(name="digits", val=300)
    assert set_there.base_recipe.data == in_profile.base_recipe.data == wanted
    assert set_there.base_recipe.augment == AugmentRecipe()


def test_the_last_to_name_the_images_decides_whether_the_sizes_of_a_profile_hold() -> None:
    of_digits = study(base={"data.name": "digits"}, arms=[])
    back = of_digits.under("small", overrides={"data.name": "cifar10"}).base_recipe
    assert back == study(arms=[]).under("small").base_recipe


def test_a_study_that_names_the_images_of_the_profile_keeps_their_sizes() -> None:
    named, silent = (
        study(base=base, arms=[]).under("small").base_recipe
        for base in ({"data.name": "cifar10"}, {})
    )
    assert named == silent


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_study_resolves_under_every_profile_as_it_is_recorded(name: str) -> None:
    recorded = json.loads((ROOT / "tests" / "data" / "resolved-studies.json").read_text())
    for profile in PROFILES:
        expected = recorded[f"{name}/{profile}"]
        under = load_study(name).under(profile)
        stored = under.model_dump(mode="json", by_alias=True)
        assert {arm.name: arm.recipe.id for arm in arms(under)} == expected.pop("arms")
        assert {field: stored[field] for field in expected} == expected


def test_a_study_that_is_under_a_profile_takes_seeds_and_overrides_and_keeps_the_rest() -> None:
    found = parse_study(RICH, name="rich")
    for profile in ("quick", "tiny"):
        under = found.under(profile)
        copy = parse_study(tomllib.loads(under.to_toml()), name="rich")
        assert copy.under(profile) is copy
        more = copy.under(profile, overrides={"train.epochs": 7}, seeds=9)
        assert (more.seeds, more.looks, more.profile) == (9, (), profile)
        changed = {**under.base, "train.epochs": 7}
        assert more.base_recipe == under.model_copy(update={"base": changed}).base_recipe


def test_a_study_that_is_under_a_profile_is_under_no_other() -> None:
    with pytest.raises(UsageError, match="is under profile 'quick' already") as caught:
        study().under("quick").under("small")
    assert "--study test" in caught.value.hint


def test_a_copy_of_a_study_has_arms_of_its_own() -> None:
    first = study().under("quick")
    assert [arm.name for arm in arms(first)] == ["reference", "a"]
    assert [arm.name for arm in arms(first.model_copy(update={"arms": ()}))] == ["reference"]


def test_a_profile_changes_factors_and_arms_by_name_and_drops_arms() -> None:
    found = parse_study(RICH, name="rich")
    quick, tiny = found.under("quick"), found.under("tiny")
    assert [factor.on for factor in quick.factors] == [1, (0.1, 0.2)] or [
        factor.on for factor in quick.factors
    ] == [
        1,
        [0.1, 0.2],
    ]
    assert quick.arms[0].set == {"augment.cutout": 4}
    assert tiny.arms == ()
    assert tiny.base_recipe.data.name == "digits"
    assert tiny.margin_pp == 2.0


def test_a_study_under_a_profile_names_its_folder_after_both() -> None:
    found = study().under("quick")
    assert (found.folder, found.profile, found.profiles) == ("test-quick", "quick", {})
    assert study().folder == "test"


def test_an_unknown_profile_is_a_usage_error_that_guesses_and_lists() -> None:
    with pytest.raises(UsageError, match=r"'quik' \(did you mean 'quick'\?\)") as caught:
        study(profiles={"mine": {"seeds": 2}}).under("quik")
    assert all(name in caught.value.hint for name in (*PROFILES, "mine"))


def test_overrides_that_cannot_be_are_a_study_error_that_names_them_all() -> None:
    with pytest.raises(StudyError) as caught:
        study().under("quick", overrides={"augment.crp": 1, "train.epochs": 0})
    assert "augment.crp" in caught.value.message
    assert "train.epochs" in caught.value.message


def test_seeds_that_cannot_be_are_a_study_error() -> None:
    with pytest.raises(StudyError, match="seeds"):
        study().under("quick", seeds=0)


# --- files
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_study_survives_its_own_toml(name: str) -> None:
    found = load_study(str(ROOT / "studies" / f"{name}.toml"))
    for form in (found, *(found.under(profile) for profile in PROFILES)):
        assert parse_study(tomllib.loads(form.to_toml()), name=form.name) == form


def test_a_study_with_everything_survives_its_own_toml() -> None:
    found = parse_study(RICH, name="rich")
    for form in (found, *(found.under(profile) for profile in (*PROFILES, "tiny"))):
        assert parse_study(tomllib.loads(form.to_toml()), name=form.name) == form


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's studies, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


def write(path: Path, **changes: Any) -> Path:
    path.write_text(tomli_w.dumps({**MINIMAL, **changes}), encoding="utf-8")
    return path


def test_the_users_studies_come_before_the_built_in_ones(folder: Path) -> None:
    write(folder / "augmentations.toml", question="Mine?")
    write(folder / "own.toml")
    assert load_study("augmentations").question == "Mine?"
    assert {"own", *BUILT_IN} <= set(available_studies())
    assert find_study("own") == Path("studies/own.toml")


def test_the_built_in_studies_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_study("augmentations").name == "augmentations"


def test_a_study_is_named_after_its_file_unless_it_names_itself(folder: Path) -> None:
    assert load_study(str(write(folder / "one.toml"))).name == "one"
    assert load_study(str(write(folder / "two.toml", name="other"))).name == "other"


def test_a_misspelt_study_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match=r"'augmentation' \(did you mean 'augmentations'\?\)"):
        load_study("augmentation")


@pytest.mark.parametrize(
    "name", ["gone.toml", "no/such/study", "x" * 5000 + ".toml", "a\x00b.toml", "/", ".toml"]
)
def test_a_file_that_is_not_there_is_a_usage_error(name: str, folder: Path) -> None:
    assert folder.is_dir()
    with pytest.raises(UsageError) as caught:
        load_study(name)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "content",
    [
        b"question = ",
        b"\xff\xfe\x00",
        b"seeds = " + b"9" * 5000,
        b"x = " + b"[" * 5000,
        b"x = " + b"[" * 100 + b"]" * 100,
        b"[" + b"a." * 3000 + b"b]\nc = 1",
        b"seeds = 0x" + b"f" * 5000,
        b"",
        b"a = 1\na = 2",
    ],
    ids=[
        "cut off",
        "not text",
        "a long number",
        "an endless list",
        "a deep list",
        "a deep table",
        "a long hex number",
        "nothing",
        "twice",
    ],
)
def test_a_file_that_is_no_study_is_a_study_error_that_names_it(
    content: bytes, folder: Path
) -> None:
    (folder / "bad.toml").write_bytes(content)
    with pytest.raises(StudyError, match=r"bad\.toml") as caught:
        load_study("bad")
    assert len(caught.value.message) < 2000


def test_a_folder_that_looks_like_a_study_is_an_error_of_ours(folder: Path) -> None:
    (folder / "bad.toml").mkdir()
    with pytest.raises(HarnessError, match=r"bad"):
        load_study("bad")


# --- anything at all
# --------------------------------------------------------------------------------------------------

KEYS = [
    *Study.model_fields,
    "schema",
    "field",
    "off",
    "on",
    "levels",
    "set",
    "drop",
    "low",
    "high",
    "log",
    "choices",
    *PROFILES,
    "augment",
    "model",
    "train",
    *(part for name in Recipe().flat() for part in (name, name.rpartition(".")[2])),
]
scalars = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from([*KEYS, "auto", "sgd", "both", "sweep"])
)
keys = st.sampled_from(KEYS) | st.text(max_size=6)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=15,
)


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a tree."""
    yield above
    for key, inner in (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    ):
        yield from places(inner, (*above, key))


def replaced(tree: Any, place: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy of a tree with one part changed."""
    if not place:
        return change(tree)
    inner = replaced(tree[place[0]], place[1:], change)
    if isinstance(tree, dict):
        return {**tree, place[0]: inner}
    return [*tree[: place[0]], inner, *tree[place[0] + 1 :]]


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """Return a good study with one to three parts replaced or added to."""
    tree: Any = draw(st.sampled_from([MINIMAL, RICH]))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(trees)
        key = draw(keys)
        place = draw(st.sampled_from(list(places(tree))))
        tree = replaced(tree, place, partial(changed, key=key, value=value))
    return tree


def changed(old: Any, *, key: str, value: Any) -> Any:
    """Return a table with one entry more, and anything else replaced."""
    return {**old, key: value} if isinstance(old, dict) else value


def assert_only_our_errors(raw: dict[str, Any]) -> None:
    """Read a tree as a study, under every profile, with its arms and back, and let nothing but a HarnessError happen."""
    try:
        found = parse_study(raw, name="test")
        forms = [found, *(found.under(profile) for profile in (*PROFILES, *found.profiles))]
    except HarnessError as error:
        assert len(error.message) < 20_000  # noqa: PT017 - either outcome is right
        return
    for form in forms:
        assert parse_study(tomllib.loads(form.to_toml()), name="test") == form
        try:
            arms(form)
        except HarnessError:
            continue


QUICK = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(mutants())
@example({**MINIMAL, "seeds": int("f" * 6000, 16)})
@example({**MINIMAL, "profiles": {"quick": {"seeds": 10**400}}})
def test_a_study_with_parts_replaced_by_anything_gives_a_study_or_an_error_of_ours(
    raw: Any,
) -> None:
    if isinstance(raw, dict):
        assert_only_our_errors(raw)


@QUICK
@given(st.dictionaries(keys, trees, max_size=8))
def test_any_table_gives_a_study_or_an_error_of_ours(raw: dict[str, Any]) -> None:
    assert_only_our_errors(raw)


@QUICK
@given(name=st.text(max_size=30))
def test_any_name_gives_a_study_or_a_usage_error(name: str) -> None:
    if os.sep in name or name.endswith(".toml") or name not in available_studies():
        with pytest.raises(HarnessError):
            load_study(name)


@given(
    st.dictionaries(
        st.text(
            st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1, max_size=20
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "augment.crop": st.integers(0, 64),
                "augment.hue": st.floats(0, 0.5),
                "data.name": st.text(min_size=1),
            },
        ),
        min_size=1,
        max_size=5,
    ),
    st.text(min_size=1, max_size=100),
    st.floats(1e-6, 100),
    st.integers(1, 10_000),
)
def test_every_study_survives_its_own_toml(
    sets: dict[str, Any], question: str, margin_pp: float, seeds: int
) -> None:
    hand = [{"name": name, "set": changes, "why": question} for name, changes in sets.items()]
    found = study(arms=hand, question=question, margin_pp=margin_pp, seeds=seeds)
    assert parse_study(tomllib.loads(found.to_toml()), name="test") == found


def test_a_profile_may_take_fresh_seeds() -> None:
    found = study(profiles={"quick": {"seeds": 4, "first_seed": 100}})
    assert (found.under("quick").first_seed, found.under("quick").seeds) == (100, 4)
    assert found.under("small").first_seed == 0
    assert "profile quick: first_seed" in faults(
        {**MINIMAL, "profiles": {"quick": {"first_seed": -1}}}
    )
