"""The JSON Schema of study files, for editors: made from ``Study`` and ``Recipe``, committed as ``studies/schema.json``.

Overrides are checked as far as a schema can: names and types of recipe fields, written as tables
(``model.dropout = 0.1``) or under quoted dotted names. What needs more than one key to judge,
``load_study`` reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.study.plugin_fields import OPEN
from harness.study.recipe import PARTS, Recipe, fields
from harness.study.study import Study

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ABOUT = {
    "schema": "version of the format",
    "name": "name of the study; left out, the file's",
    "question": "the heading of the report",
    "why": "a sentence or two under the question",
    "design": "how factors make arms",
    "baseline": "name of the arm that the others depart from",
    "command": "a training script to run in place of our engine, a list of words with {seed}, {out} and settings in braces",
    "runner": "a training function to run in place of our engine, file.py:function",
    "timeout_seconds": "seconds after which a command is stopped and its trial fails; 0 for never",
    "isolate": "gives every run of a command a working folder of its own; a list names what is linked into it",
    "env": "environment variables of a command; settings may be in braces",
    "hash_imports": "whether local modules that your code imports are part of what identifies a trial",
    "metric": "what decides, on validation images: a built-in metric, file.py:function, or a number that the script writes",
    "metrics": "where a script leaves its numbers and how to read them",
    "alpha": "level of tests and intervals",
    "margin_pp": "percentage points: smaller differences are not worth acting on",
    "gap_margin_pp": "percentage points: a change that may widen the overfitting gap by more is not recommended",
    "seeds": "runs of every arm, paired by seed",
    "first_seed": "the first of them",
    "looks": "numbers of seeds at which arms may leave; rises and ends at seeds",
    "boundary": "how fast the boundary of the looks falls; pocock has one level for all",
    "control": "adds an arm that differs from the baseline by its seeds alone",
    "base": "recipe fields that every arm shares; with command or runner, the settings of the script",
    "factors": "components that are switched (off, on) or swept (levels)",
    "arms": "arms by hand",
    "search": "how `harness tune` searches the space",
    "space": "recipe fields that `harness tune` searches, between what",
    "retune": "entries of the space that every arm is tried over, each with the same small budget",
    "profiles": "what is different at one size: recipe fields, seeds, first_seed, looks, margin_pp, gap_margin_pp, "
    "factors.NAME, arms.NAME",
    "reported": "what a write-up reports of its own run: metrics, onset_epoch, settings; the report compares ours with them",
}
# of a script, which is free to name them
_SETTING = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$"}
# model.kwargs.NAME and its like
_PATTERNS = tuple(f"^{start.replace('.', chr(92) + '.')}\\..+$" for start in OPEN)
# written with a report, not by hand
_HIDDEN = ("profile", "table", "settings", "pairing", "seed_names", "datasets", "family")


def study_schema() -> dict[str, Any]:
    """Return the schema of a study file (JSON Schema, draft 2020-12)."""
    made = Study.model_json_schema(by_alias=True)
    defs, top = (
        made["$defs"],
        {key: value for key, value in made["properties"].items() if key not in _HIDDEN},
    )
    defs = {
        name: value
        for name, value in defs.items()
        if name in ("Factor", "HandArm", "Dimension", "Search", "MetricRule", "Reported")
    }
    for name, text in _ABOUT.items():
        top[name] = {**top[name], "description": text}
    defs |= _recipe_fields()
    defs["Overrides"] = _overrides()
    patterns = [{"type": "string", "pattern": one} for one in _PATTERNS]
    defs["FieldName"] = {"anyOf": [{"enum": list(fields())}, *patterns, _SETTING]}
    names = {
        "anyOf": [_ref("FieldName"), {"type": "array", "items": _ref("FieldName"), "minItems": 1}]
    }
    defs["Factor"]["properties"]["field"] = names
    defs["Settings"] = _settings()
    either = {"anyOf": [_ref("Overrides"), _ref("Settings")]}
    defs["HandArm"]["properties"]["set"] = either
    defs["Reported"]["properties"]["settings"] = _ref("Overrides")
    defs["Dimension"]["properties"]["field"] = names
    defs["Dimension"]["properties"]["when"] = {"type": "object"}
    defs["Profile"] = _profile(top, defs, free=False)
    defs["ScriptProfile"] = _profile(top, defs, free=True)
    top["base"] = {**either, "description": _ABOUT["base"]}
    # entries may be tables in tables
    top["space"] = {"type": "object", "description": _ABOUT["space"]}
    top["profiles"] = {"type": "object", "description": _ABOUT["profiles"]}
    profiles = {
        name: {"type": "object", "additionalProperties": _ref(name)}
        for name in ("Profile", "ScriptProfile")
    }
    schema = {
        "$schema": _DIALECT,
        "title": "A study of harness",
        "type": "object",
        "properties": top,
        "required": ["question", "margin_pp"],
        "additionalProperties": False,
        "if": {"anyOf": [{"required": ["command"]}, {"required": ["runner"]}]},
        "then": {"properties": {"base": _ref("Settings"), "profiles": profiles["ScriptProfile"]}},
        "else": {"properties": {"base": _ref("Overrides"), "profiles": profiles["Profile"]}},
        "$defs": dict(sorted(defs.items())),
    }
    return _plain(schema)  # type: ignore[no-any-return]


def schema_text() -> str:
    """Return the schema as the text of ``studies/schema.json``."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to a file."""
    path.write_text(schema_text(), encoding="utf-8")


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _recipe_fields() -> dict[str, Any]:
    """Every recipe field and, as a table of its fields, every part of the recipe, under its name."""
    made = Recipe.model_json_schema()
    found: dict[str, Any] = {}
    for part in PARTS:
        reference = made["properties"][part]
        target = reference.get("$ref") or reference["allOf"][0]["$ref"]
        properties = made["$defs"][target.rpartition("/")[2]]["properties"]
        names = [name for name in properties if f"{part}.{name}" not in OPEN]
        found |= {f"{part}.{name}": properties[name] for name in names}
        referred = {name: _ref(f"{part}.{name}") for name in names}
        for start, text in OPEN.items():  # tables of names that the user chooses
            if start.startswith(f"{part}."):
                referred[start.partition(".")[2]] = {"type": "object", "description": text}
        found[part] = {"type": "object", "properties": referred, "additionalProperties": False}
    return found


def _overrides() -> dict[str, Any]:
    """Recipe fields, as tables of parts and under dotted names."""
    names = [*PARTS, *fields()]
    named = {name: _ref(name) for name in names}
    chosen = {
        pattern: {"description": text}
        for pattern, text in zip(_PATTERNS, OPEN.values(), strict=True)
    }
    return {
        "type": "object",
        "properties": named,
        "patternProperties": chosen,
        "additionalProperties": False,
    }


def _settings() -> dict[str, Any]:
    """The settings of a script, whose names are free."""
    return {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": kind} for kind in ("boolean", "number", "string", "array")]
        },
        "propertyNames": _SETTING,
    }


def _profile(top: Mapping[str, Any], defs: Mapping[str, Any], *, free: bool) -> dict[str, Any]:
    """What a profile may set: recipe fields or ``free`` settings, numbers that depend on size, changes of factors and arms."""
    factor, arm = defs["Factor"]["properties"], defs["HandArm"]["properties"]
    change = {
        "type": "object",
        "properties": {key: factor[key] for key in ("off", "on", "levels")},
        "additionalProperties": False,
    }
    other = {
        "type": "object",
        "properties": {"set": arm["set"], "drop": {"type": "boolean"}},
        "additionalProperties": False,
    }
    own = {
        key: top[key]
        for key in ("seeds", "first_seed", "looks", "margin_pp", "gap_margin_pp", "search")
    } | {"space": {"type": "object"}}
    own |= {
        "factors": {"type": "object", "additionalProperties": change},
        "arms": {"type": "object", "additionalProperties": other},
    }
    if free:
        return {**_settings(), "properties": own}
    return {**_overrides(), "properties": {**own, **_overrides()["properties"]}}


def _plain(value: Any) -> Any:
    """Drop what pydantic adds for programmers: titles, docstrings beyond a line, None (TOML has none) and compound defaults."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: item
        for key, item in value.items()
        if key != "title" or "$schema" in value or isinstance(item, dict)
    }
    if isinstance(kept.get("anyOf"), list):
        choices = [choice for choice in kept["anyOf"] if choice != {"type": "null"}]
        kept = (
            {**{key: item for key, item in kept.items() if key != "anyOf"}, **choices[0]}
            if len(choices) == 1
            else kept
        )
    # an editor would offer a list or a table that no file writes like that
    if "default" in kept and not isinstance(kept["default"], (str, int, float)):
        del kept["default"]
    if isinstance(kept.get("description"), str):
        # the first line is for users, the rest for programmers
        kept["description"] = kept["description"].partition("\n")[0]
    return {key: _plain(item) for key, item in kept.items()}
