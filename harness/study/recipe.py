"""The training recipe: every choice that makes one run different from another, typed, bounded and hashed.

``Recipe()`` is the reference recipe. Two recipes with the same field values have the same ``id``
whatever wrote them. This module knows nothing of torch, files or studies.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from harness.errors import RecipeError, did_you_mean
from harness.plugins import is_plugin
from harness.study.plugin_fields import (
    OFF,
    OPEN,
    OwnName,
    carried,
    lost_defaults,
    open_field,
    owned,
)
from harness.study.recipe_fields import (
    AugmentRecipe,
    DataRecipe,
    LossRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Part,
    ScheduleRecipe,
    TrainRecipe,
)
from harness.study.script_settings import Settings, name_fault
from harness.text import expected

# bumped when the default of a field changes, so that old ids keep meaning what they meant
SCHEMA = 1
ENGINE = 1  # bumped when the same recipe and seed give different numbers; a golden run guards it


class Recipe(Part):
    """One complete training recipe. ``Recipe()`` is the reference.

    Its ``id`` is the first 16 hexadecimal digits of the SHA-256 of the canonical JSON of all fields that differ from the
    default, and of the schema number.

    ``settings`` are there when a training script runs in place of our engine. Then they are all that the recipe has,
    under their own names, and the other fields mean nothing.
    """

    data: DataRecipe = DataRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    model: ModelRecipe = ModelRecipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe = TrainRecipe()
    settings: Settings | None = None

    @model_serializer(mode="wrap")
    def _without_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value
            for name, value in handler(self).items()
            if name != "settings" or value is not None
        }

    @property
    def id(self) -> str:
        """Identity of the recipe: 16 hexadecimal digits."""
        fields = {
            name: value + 0.0 if isinstance(value, float) else value
            for name, value in self.changed().items()
        }
        kind = "fields" if self.settings is None else "settings"
        # adding 0.0 makes -0.0 the 0.0 that it equals
        return digest({"schema": SCHEMA, kind: fields})

    def flat(self) -> dict[str, Any]:
        """Return every field that says something under its dotted name, in the order of the classes; of a script, its settings.

        Fields whose names the user chose follow their part's; those that only a component of ours
        reads are left out where a plug-in replaces it.
        """
        if self.settings is not None:
            return dict(self.settings.root)
        values: dict[str, Any] = {}
        for part in PARTS:
            silent = owned(part, getattr(getattr(self, part), "name", ""))
            for field, value in getattr(self, part):
                name = f"{part}.{field}"
                if name in OPEN:
                    values |= {f"{name}.{key}": argument for key, argument in value}
                elif name not in silent:
                    values[name] = value
        return values

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from the reference recipe, under their dotted names; of a script, its settings."""
        if self.settings is not None:
            return self.flat()
        default = _DEFAULT.flat()
        return {
            name: value
            for name, value in self.flat().items()
            if value != default.get(name, _ABSENT)
        }

    def difference(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Return ``{field: (here, there)}`` for every field that says something there and differs here.

        A field that says nothing here counts with its default, and with None where it has no
        default; an augmentation of yours that is not there is off.
        """
        # Seen from there: a field that only a plug-in here does not read is named with its default.
        here = self.flat() if self.settings is not None else {**_DEFAULT.flat(), **self.flat()}
        there = {
            name: OFF for name in self.flat() if name.startswith("augment.own.")
        } | other.flat()
        return {
            name: (here.get(name), value)
            for name, value in there.items()
            if value != here.get(name, _ABSENT)
        }

    def plugins(self) -> dict[str, str]:
        """Return ``{field: file.py:attribute}`` for everything of the recipe that is your code or a library's."""
        named = {f"{part}.name": getattr(getattr(self, part), "name", "") for part in PARTS}
        own = {f"augment.own.{name}": function for name, function in self.augment.own}
        return {field: name for field, name in {**named, **own}.items() if is_plugin(name)}

    def stored(self) -> dict[str, Any]:
        """Return it as plain data that ``of_stored`` reads back to an equal recipe."""
        return self.changed() if self.settings is None else {"settings": self.flat()}

    @classmethod
    def of_stored(cls, data: Mapping[str, Any]) -> Recipe:
        """Read back ``stored``.

        Raises:
            RecipeError: a field does not exist or cannot have its value.
        """
        if "settings" not in data:
            return cls().with_overrides(data)
        recipe, faults = cls.of_settings(data["settings"])
        if recipe is None:
            raise RecipeError(
                "; ".join(faults),
                "the settings of a script are texts, numbers, true, false and lists of these",
            )
        return recipe

    @classmethod
    def of_settings(cls, values: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
        """Return (recipe of a script with these settings, []), or (None, one sentence a fault)."""
        faults = [f"{name}: {fault}" for name in values if (fault := name_fault(name))]
        try:
            settings = Settings.model_validate(dict(values))
        except ValidationError as error:
            wrong = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
            kinds = "should be text, a number, true, false or a list of these"
            return None, faults + [
                f"{name}: {kinds} (given: {shown(values[name])})" for name in wrong
            ]
        return (None, faults) if faults else (cls(settings=settings), [])

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """Return this recipe with some fields replaced.

        Args:
            overrides: ``{dotted field name: value}``.

        Raises:
            RecipeError: one or more names or values do not exist or do not fit; the message lists every one.
        """
        recipe, faults = self.try_overrides(overrides)
        if recipe is None:
            raise RecipeError(
                "; ".join(faults),
                "`harness show fields` lists every recipe field with its type and default",
            )
        return recipe

    def try_overrides(self, overrides: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
        """As ``with_overrides``, returning ``(recipe, [])`` or ``(None, one sentence a fault)`` instead of raising."""
        if self.settings is not None:
            names = self.flat()
            faults = [
                f"{name}: no such setting in [base]{did_you_mean(name, names)}"
                for name in overrides
                if name not in names
            ]
            recipe, more = self.of_settings(
                {**names, **{k: v for k, v in overrides.items() if k in names}}
            )
            return (None, faults + more) if faults or more else (recipe, [])

        # Everything that is wrong is named at once, so nothing stops at the first fault.
        known = {
            name: value for name, value in overrides.items() if name in _NAMES or open_field(name)
        }
        faults = [
            f"{name}: no such recipe field{_near(name)}" for name in overrides if name not in known
        ]
        tree: dict[str, dict[str, Any]] = {}
        for name, value in {**carried(self.changed(), known), **known}.items():
            start = open_field(name)
            part, _, field = (start or name).partition(".")
            section = tree.setdefault(part, {})
            if start:
                section.setdefault(field, {})[name.removeprefix(f"{start}.")] = value
            else:
                section[field] = value
        # a default set by hand for a plug-in that never reads it would be a setting without effect
        faults += lost_defaults(
            tree,
            {name: value for name, value in known.items() if value == _DEFAULT_VALUES.get(name)},
        )
        try:
            recipe = type(self).model_validate(tree)
        except ValidationError as error:
            return None, faults + list(_sentences(error))
        return (None, faults) if faults else (recipe, [])


PARTS = tuple(name for name in Recipe.model_fields if name != "settings")
_DEFAULT = Recipe()
_DEFAULT_VALUES = _DEFAULT.flat()
_NAMES = tuple(_DEFAULT_VALUES)
_ABSENT = object()  # equal to no value


def _near(name: str) -> str:
    """Return the nearest field for a name that is none; behind a dot, an argument of your own code may be meant."""
    own = [f"{start}.{name.rpartition('.')[2]}" for start in OPEN] if "." in name else []
    return did_you_mean(name, (*_NAMES, *own))


def digest(value: object, length: int = 16) -> str:
    """Return the first ``length`` hexadecimal digits of the SHA-256 of ``value`` as canonical JSON."""
    # canonical: the same value gives the same text on every machine and Python
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def shown(value: object, longest: int = 60) -> str:
    """Return ``value`` as it is written in Python, cut to ``longest`` characters, whatever a file may have put there."""
    try:
        text = repr(value)
    except (
        ValueError,
        RecursionError,
    ):  # a whole number of thousands of digits, a list in a list in a list ...
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _sentences(error: ValidationError) -> Iterator[str]:
    """Turn pydantic's faults into one sentence each, naming field, expectation and what was given."""
    seen = set()
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"][:2])
        field = _field(place) if place in _NAMES and len(fault["loc"]) == 2 else None
        wanted = expected(fault, field.metadata if field is not None else ())
        given = (
            "" if isinstance(fault["input"], (dict, Part)) else f" (given: {shown(fault['input'])})"
        )
        # pydantic reports each branch of the union
        if place in ("model.channels", "model.pool") and len(fault["loc"]) > 2:
            wanted, given = "should be 'auto' or a list of whole numbers from 1", ""
        elif place.endswith(".name") and len(fault["loc"]) > 2:  # likewise
            words = _type_words(_field(place)).replace(" | ", ", ").rpartition(", ")
            wanted = f"should be {words[0]} or {words[2]}"
        sentence = f"{place}: {wanted}{given}"
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def fields() -> dict[str, tuple[str, Any, str]]:
    """Return ``{dotted name: (type in words, default, description)}`` for every recipe field that has a default.

    Those whose last name the user chooses are in ``harness.study.plugin_fields.OPEN``.
    """
    known = {name: _field(name) for name in _NAMES}
    return {
        name: (_type_words(field), field.default, field.description or "")
        for name, field in known.items()
    }


def _field(name: str) -> Any:
    part, _, field = name.partition(".")
    return Recipe.model_fields[part].annotation.model_fields[field]  # type: ignore[union-attr]


def _type_words(field: Any) -> str:
    kinds = get_args(field.annotation)
    if len(kinds) == 2 and kinds[1] == OwnName:
        return " | ".join((*get_args(kinds[0]), "FILE.py:NAME"))
    if field.annotation in (int, float, str, bool):
        words = {int: "whole number", float: "number", str: "text", bool: "true or false"}[
            field.annotation
        ]
    elif "tuple" in str(field.annotation):
        return "auto or list of whole numbers"
    else:
        return " | ".join(map(str, get_args(field.annotation)))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{signs[key]} {getattr(m, key):g}"
        for m in field.metadata
        for key in signs
        if getattr(m, key, None) is not None
    ]
    return f"{words} {', '.join(bounds)}".strip()


def parse_assignment(text: str) -> tuple[str, Any]:
    """Parse one ``field=value`` of the command line; the value is TOML, and a bare word is text.

    Raises:
        RecipeError: there is no ``=`` or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise RecipeError(
            f"--set {shown(text)} should have the form field=value",
            "for example --set train.epochs=10",
        )
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (
        ValueError,
        RecursionError,
    ):  # not TOML; a number of thousands of digits; brackets in brackets in brackets
        return name.strip(), value.strip()
    # more lines are no value
    return name.strip(), parsed["value"] if parsed.keys() == {"value"} else value.strip()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"a.b": value}`` for a nested or an already dotted mapping."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat
