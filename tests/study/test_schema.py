"""The schema of study files: fresh, true to what is built in, and against what `load_study` refuses."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.study.files import available_studies
from harness.study.recipe import fields
from harness.study.schema import schema_text, study_schema
from harness.study.template import study_template

ROOT = Path(__file__).parent.parent.parent
SCHEMA = study_schema()
KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}
SOUND: dict[str, Any] = {"schema": 1, "question": "Why?", "seeds": 3, "margin_pp": 1.0}


def faults(value: Any, schema: dict[str, Any] = SCHEMA, place: str = "") -> Iterator[str]:
    """The part of JSON Schema that the schema uses, as the specification has it."""
    if "$ref" in schema:
        yield from faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], place)
    if "anyOf" in schema and all(list(faults(value, one, place)) for one in schema["anyOf"]):
        yield f"{place}: none of the alternatives"
    if "if" in schema:
        holds_there = not list(faults(value, schema["if"], place))
        yield from faults(value, schema.get("then" if holds_there else "else", {}), place)
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{place}: not of the pattern"
    kind = schema.get("type")
    if kind and (
        not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        yield f"{place}: no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: not among the values"
    if "const" in schema and value != schema["const"]:
        yield f"{place}: not the value"
    bounds: dict[str, Callable[[Any], bool]] = {
        "minimum": lambda b: value >= b,
        "maximum": lambda b: value <= b,
        "exclusiveMinimum": lambda b: value > b,
    }
    bounds |= {"exclusiveMaximum": lambda b: value < b, "minLength": lambda b: len(value) >= b}
    bounds |= {"maxLength": lambda b: len(value) <= b, "minItems": lambda b: len(value) >= b}
    yield from (
        f"{place}: {key} {schema[key]}"
        for key, holds in bounds.items()
        if key in schema and not holds(schema[key])
    )
    if isinstance(value, dict):
        yield from object_faults(value, schema, place)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from faults(item, schema["items"], f"{place}[{index}]")


def object_faults(value: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
    yield from (
        f"{place}.{name}: missing" for name in schema.get("required", ()) if name not in value
    )
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        yield from faults(name, schema.get("propertyNames", {}), f"{place}.{name}")
        fitting = [one for pattern, one in patterns.items() if re.search(pattern, name)]
        if name not in known and fitting:
            yield from (fault for one in fitting for fault in faults(item, one, f"{place}.{name}"))
        elif name not in known and rest is False:
            yield f"{place}.{name}: unknown"
        elif name in known or rest:
            yield from faults(item, known.get(name, rest), f"{place}.{name}")


def test_the_committed_schema_is_what_the_code_makes() -> None:
    refresh = "python -c \"from pathlib import Path; from harness.study.schema import write_schema as w; w(Path('studies/schema.json'))\""
    assert (ROOT / "studies" / "schema.json").read_text(encoding="utf-8") == schema_text(), (
        f"write it anew: {refresh}"
    )


@pytest.mark.parametrize("path", available_studies().values(), ids=lambda path: path.stem)
def test_every_built_in_study_satisfies_the_schema(path: Path) -> None:
    assert list(faults(tomllib.loads(path.read_text(encoding="utf-8")))) == []


def test_a_new_study_satisfies_the_schema() -> None:
    assert list(faults(tomllib.loads(study_template("mine")))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"questoin": "?"},
        {"design": "leave-one-in"},
        {"seeds": 2.5},
        {"seeds": 0},
        {"margin_pp": 0},
        {"schema": 2},
        {"base": {"model": {"dropuot": 0.1}}},
        {"base": {"model.dropout": 1.5}},
        {"base": {"model.name": "resnet18"}},
        {"base": {"model.kwarg.depth": 1}},
        {"factors": [{"name": "a", "field": "model.kwarg.depth", "off": 0, "on": 1}]},
        {"base": {"augment": {"flip": "always"}}},
        {"factors": [{"name": "a", "field": "augment.corp", "off": 0, "on": 1}]},
        {"factors": [{"field": "augment.crop"}]},
        {"arms": [{"name": "a"}]},
        {"arms": [{"name": "a", "set": {"train.epochs": "many"}}]},
        {"profiles": {"quick": {"sedes": 3}}},
        {"profiles": {"quick": {"factors": {"crop": {"onn": 1}}}}},
        {"search": {"sampler": "grid"}},
        {"table": "runs.csv"},
    ],
    ids=str,
)
def test_what_load_study_refuses_by_name_or_type_the_schema_refuses_too(
    change: dict[str, Any],
) -> None:
    assert list(faults(SOUND)) == []
    assert list(faults(SOUND | change)) != []


SCRIPT: dict[str, Any] = SOUND | {"command": ["python", "train.py", "{lr}"], "base": {"lr": 0.1}}


def test_the_settings_of_a_script_have_free_names_in_base_arms_factors_and_profiles() -> None:
    study = {
        "arms": [{"name": "fast", "set": {"lr": 0.3}}],
        "factors": [{"name": "lr", "field": "lr", "levels": [0.1, 0.3]}],
        "profiles": {"long": {"seeds": 9, "lr": 0.01}},
        "metrics": {"f1": {"higher_is_better": True}},
    }
    assert list(faults(SCRIPT | study)) == []


@pytest.mark.parametrize(
    "change",
    [{"base": {"train": {"epochs": 3}}}, {"metrics": {"f1": {"unit": "m"}}}, {"command": "x"}],
    ids=str,
)
def test_what_no_script_study_may_say_the_schema_refuses(change: dict[str, Any]) -> None:
    assert list(faults(SCRIPT | change)) != []


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"model": {"name": "net.py:Net", "kwargs": {"depth": 2}}}},
        {"base": {"model.name": "torchvision:resnet18", "model.kwargs.cifar_stem": True}},
        {
            "base": {
                "augment": {
                    "own": {"posterize": "aug.py:posterize"},
                    "kwargs": {"posterize": {"bits": 4}},
                }
            }
        },
        {
            "factors": [
                {
                    "name": "a",
                    "field": "augment.own.posterize",
                    "off": "none",
                    "on": "aug.py:posterize",
                }
            ]
        },
        {"profiles": {"quick": {"optimizer.name": "own.py:Lion", "optimizer.kwargs.beta2": 0.9}}},
    ],
    ids=str,
)
def test_code_of_the_users_is_named_and_given_arguments_as_any_field_is_set(
    change: dict[str, Any],
) -> None:
    assert list(faults(SOUND | change)) == []


@pytest.mark.parametrize("missing", ["question", "margin_pp"])
def test_a_key_that_every_study_needs_is_required(missing: str) -> None:
    assert list(faults({key: value for key, value in SOUND.items() if key != missing})) == [
        f".{missing}: missing"
    ]


@pytest.mark.parametrize("name", fields())
def test_every_recipe_field_can_be_set_as_a_table_and_under_its_dotted_name(name: str) -> None:
    part, _, field = name.partition(".")
    default = json.loads(json.dumps(fields()[name][1]))
    assert list(faults(SOUND | {"base": {name: default}})) == []
    assert list(faults(SOUND | {"base": {part: {field: default}}})) == []


def test_every_key_and_field_says_what_it_is() -> None:
    assert [name for name in fields() if not SCHEMA["$defs"][name].get("description")] == []
    assert [name for name, key in SCHEMA["properties"].items() if not key.get("description")] == []
