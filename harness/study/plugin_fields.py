"""Recipe fields that name your code: plug-ins, their keyword arguments, your augmentations.

``model.kwargs.depth = 3`` is a field whose last name the user chooses. Such fields have no default:
one that is not set is not part of the recipe, nor of its id. A field that only one of our own
components reads (``model.blocks`` is BlockNet's) must not be set together with a plug-in that would
never see it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from harness.errors import did_you_mean
from harness.plugins import is_plugin

OFF = "none"  # an augmentation of one's own that is switched off
PLUGIN = r"^(?:timm:[A-Za-z_][A-Za-z0-9_.]*|[^\n]+:[A-Za-z_][A-Za-z0-9_]*)$"

OwnName = Annotated[str, Field(pattern=PLUGIN)]
"""``path/to/file.py:attribute`` or ``package.module:attribute``."""

OPEN = {
    "data.kwargs": "keyword argument of a data source of yours",
    "augment.own": "an augmentation of yours, file.py:function; none is off",
    "augment.kwargs": "keyword argument of the augmentation of that name: augment.kwargs.OWN.NAME",
    "model.kwargs": "keyword argument of a net of yours, torchvision's or timm's",
    "optimizer.kwargs": "keyword argument of an optimiser of yours",
    "schedule.kwargs": "keyword argument of a schedule of yours",
    "loss.kwargs": "keyword argument of a loss of yours",
}
"""Beginnings of the fields whose last name the user chooses, and what they are."""

OWNED = {
    "model": ("blocks", "channels", "pool", "width", "hidden", "dropout", "head", "features"),
    "schedule": ("pct_start", "div", "final_div", "cycle_momentum"),
    "loss": ("label_smoothing",),
}
"""Fields that only our own components read: they mean nothing to a plug-in of that part."""

NAMED = {
    "data": "cifar10",
    "model": "blocknet",
    "optimizer": "adam",
    "schedule": "one-cycle",
    "loss": "cross-entropy",
}
"""The parts that a plug-in can take the place of, with their defaults."""


def _keywords(value: object) -> object:
    """Turn a table, or the pairs that it is kept as, into pairs in the order of their names; values are scalars or lists."""
    if isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in value
    ):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise ValueError("should be a table of names")  # noqa: TRY004 - pydantic reports a ValueError and lets others through
    for name in value:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} is not a name for a keyword argument")
    return tuple((name, _value(name, value[name])) for name in sorted(value))


def _value(name: str, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(_value(name, item) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} should be finite")
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{name} should be a number, a text, true or false, or a list of them")


Keywords = Annotated[tuple[tuple[str, Any], ...], BeforeValidator(_keywords), PlainSerializer(dict)]
"""Keyword arguments: given as a table, kept as pairs, which can be hashed."""


def open_field(name: str) -> str:
    """Return the beginning (a key of ``OPEN``) that a dotted field name has, or an empty string."""
    return next(
        (start for start in OPEN if name.startswith(f"{start}.") and len(name) > len(start) + 1), ""
    )


def owner_fault(part: str, name: str, kwargs: Collection[object], given: Collection[str]) -> str:
    """Return what is wrong with a part's fields, given what the part is named; empty when nothing is.

    Args:
        part: of the recipe, such as ``model``.
        name: what ``part.name`` holds.
        kwargs: the part's keyword arguments.
        given: names of the part's fields that were set.
    """
    # arguments for a component of ours would be silently lost
    if not is_plugin(name):
        return f"kwargs are for code of your own, and {part}.name is {name!r}" if kwargs else ""
    lost = [field for field in OWNED.get(part, ()) if field in given]
    if not lost:
        return ""
    whose = NAMED[part] if part != "schedule" else "our schedules"
    return f"{', '.join(lost)} would not reach {name!r}, only {whose}; its own arguments are {part}.kwargs.NAME"


def carried(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``base`` that still mean something once ``overrides`` are set upon them.

    Naming another net, data source, optimiser, schedule or loss leaves the keyword arguments of the
    former one behind, and the fields that only ours reads when a plug-in takes its place.

    Args:
        base: ``{dotted field name: value}``.
        overrides: likewise; not part of what is returned.
    """
    left: set[str] = set()
    for part, default in NAMED.items():
        before = base.get(f"{part}.name", default)
        after = overrides.get(f"{part}.name", before)
        # arguments are one plug-in's, and so mean nothing to the next
        if after != before:
            left |= {name for name in base if name.startswith(f"{part}.kwargs.")}
            left |= owned(part, after)
    return {name: value for name, value in base.items() if name not in left}


def owned(part: str, name: object) -> set[str]:
    """Return the dotted fields of a part that say nothing when it is named so: ours, when it is a plug-in."""
    return (
        {f"{part}.{field}" for field in OWNED.get(part, ())}
        if isinstance(name, str) and is_plugin(name)
        else set()
    )


def own_augmentations(tree: object) -> object:
    """Leave out of an ``augment`` section the augmentations that are off, with their keyword arguments.

    Raises:
        ValueError: a keyword argument of an augmentation that there is not, or a name that is no
            function's.
    """
    if not isinstance(tree, Mapping) or not (
        isinstance(tree.get("own"), Mapping) or isinstance(tree.get("kwargs"), Mapping)
    ):
        return tree
    own, kwargs = (dict(tree.get(key) or {}) for key in ("own", "kwargs"))
    for name, function in own.items():
        if function != OFF and not (isinstance(function, str) and is_plugin(function)):
            raise ValueError(
                f"own.{name} should be file.py:function, or {OFF!r} (given: {function!r})"
            )
        if not str(name).isidentifier():
            raise ValueError(f"own.{name}: an augmentation's name has letters, digits and '_' only")
    for name in kwargs:
        owner, dot, _ = str(name).partition(".")
        if not dot or owner not in own:
            if not dot:
                raise ValueError(
                    f"kwargs.{name} names no augmentation; it reads augment.kwargs.OWN.NAME"
                )
            near = did_you_mean(owner, own)
            raise ValueError(
                f"kwargs.{name}: no augmentation of that name is set{near}, so set augment.own.{owner} as well"
            )

    # One that is off leaves no trace, so that the recipe is the one without it, with its id.
    on = {name: function for name, function in own.items() if function != OFF}
    kept = {name: value for name, value in kwargs.items() if name.partition(".")[0] in on}
    return {**tree, "own": on, "kwargs": kept}


def lost_defaults(tree: Mapping[str, Mapping[str, Any]], by_hand: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every default that was set by hand and that a plug-in would never see.

    Args:
        tree: ``{part: {field: value}}`` of the recipe asked for.
        by_hand: ``{dotted field name: value}`` of what was set to its default.
    """
    return [
        f"{part}: {owner_fault(part, values['name'], (), [name.partition('.')[2]])}"
        for part, values in tree.items()
        for name in sorted(owned(part, values.get("name")) & by_hand.keys())
    ]


def self_standing(overrides: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides of a base with the plug-ins that their keyword arguments are for, so that any recipe can take them.

    Args:
        overrides: ``{dotted field name: value}``.
        base: every field of the recipe that they were made for.
    """
    needed: dict[str, Any] = {}
    for part in NAMED:
        if f"{part}.name" not in overrides and any(
            name.startswith(f"{part}.kwargs.") for name in overrides
        ):
            needed |= {
                k: v
                for k, v in base.items()
                if k == f"{part}.name" or k.startswith(f"{part}.kwargs.")
            }
    for name in overrides:
        if name.startswith("augment.kwargs."):
            owner = f"augment.own.{name.split('.')[2]}"
            needed |= {owner: base[owner]} if owner in base else {}
    return {**needed, **overrides}
