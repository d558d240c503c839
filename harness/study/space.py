"""The space of a search: which recipe fields are varied, between what, and on which condition.

An entry is an interval (``low``, ``high``, perhaps ``log`` or ``step``) or a list of ``choices``,
for one recipe field or for several that move together. It is called after its field unless
``field`` says which one it is for, so that a field may have two entries under conditions that
exclude each other. An entry with ``when`` takes part only where another entry has one of the values
named; elsewhere its field stays as the base recipe has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from harness.errors import did_you_mean
from harness.study.plugin_fields import open_field
from harness.study.recipe import Recipe, shown
from harness.study.recipe_fields import Part

# a parameter of every search that nothing depends on: the noise floor of importances
DUMMY = "dummy"
Choose = Callable[[str, "Dimension"], Any]


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else _listed(value)


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _conditions(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    conditions: dict[str, Any] = {}
    for name, values in _spread(value, lambda item: not isinstance(item, Mapping)).items():
        conditions[name] = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    return conditions


class Dimension(Part):
    """One entry of a search space: an interval (``low``, ``high``, ``log``, ``step``) or ``choices``.

    Attributes:
        field: recipe fields that take the value; empty for the one that the entry is called after.
        when: ``{other entry: values}``; the entry takes part where the other one has one of the values.
    """

    field: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = Field(None, gt=0)
    choices: Annotated[tuple[Any, ...], BeforeValidator(_listed)] = ()
    when: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_conditions)] = {}

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the recipe fields that the entry called ``name`` sets."""
        return self.field or (name,)

    def holds(self, value: Any) -> bool:
        """Return whether the entry can take a value."""
        if self.choices:
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool)
                for choice in self.choices
            )
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or self.low is None
            or self.high is None
        ):
            return False
        if not self.low <= value <= self.high:
            return False
        # steps add up with rounding errors
        steps = (value - self.low) / self.step if self.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def words(self) -> str:
        """Return what it can take, in words."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        spread = f"{self.low:g} to {self.high:g}"
        return f"{spread}{', log' if self.log else ''}{f' in steps of {self.step:g}' if self.step else ''}"


class Search(Part):
    """How a space is searched and what becomes of the best.

    Attributes:
        trials: budget; complete, pruned and diverged trials count, and those that fail by their code.
        sampler: tpe, gp (not on conditional spaces) or random.
        pruner: median (one look, late: below the median of all trials that came as far) or none.
        warmup: share of the epochs after which the median pruner looks: one-cycle curves cross until late.
        confirm: how many of the best are run again on fresh seeds, with the reference.
        max_seconds, max_params_m, max_memory_mib, max_gap_pp: what a recipe may cost: training seconds, millions of
            parameters, peak MiB, overfitting gap.
        retune_trials: settings that every arm is tried at when it is retuned, the one that it has as it is among them.
    """

    trials: int = Field(50, ge=1, le=100_000)
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    pruner: Literal["median", "none"] = "median"
    warmup: float = Field(0.65, ge=0, lt=1)
    confirm: int = Field(3, ge=0, le=20)
    max_seconds: float | None = Field(None, gt=0)
    max_params_m: float | None = Field(None, gt=0)
    max_memory_mib: float | None = Field(None, gt=0)
    max_gap_pp: float | None = Field(None, gt=0)
    retune_trials: int = Field(8, ge=2, le=1_000)


def flat_space(value: object) -> object:
    """Return ``{entry: table}`` for a table of entries, whose dotted names TOML may have turned into tables in tables."""
    if not isinstance(value, Mapping):
        return value
    return _spread(
        value,
        lambda item: (
            not isinstance(item, Mapping) or not item or not all(map(_is_part, item.values()))
        ),
    )


def _is_part(value: object) -> bool:
    return isinstance(value, (Mapping, Dimension))


def _spread(
    tree: Mapping[str, Any], leaf: Callable[[object], bool], prefix: str = ""
) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in tree.items():
        if leaf(value):
            entries[f"{prefix}{key}"] = value
        else:
            entries.update(_spread(value, leaf, f"{prefix}{key}."))
    return entries


def in_order(space: Mapping[str, Dimension]) -> list[tuple[str, Dimension]]:
    """Return the entries, each after those that its condition names; what is in a circle is left out."""
    placed: dict[str, Dimension] = {}
    while True:
        ready = [
            name
            for name, entry in space.items()
            if name not in placed and all(other in placed for other in entry.when)
        ]
        if not ready:
            return list(placed.items())
        placed.update({name: space[name] for name in ready})


def choose(space: Mapping[str, Dimension], pick: Choose) -> dict[str, Any]:
    """Return ``{entry: value}`` for the entries that take part.

    Args:
        space: without faults.
        pick: called with name and entry, in order, for its value.
    """
    chosen: dict[str, Any] = {}
    for name, entry in in_order(space):
        if all(
            other in chosen and _among(chosen[other], values)
            for other, values in entry.when.items()
        ):
            chosen[name] = pick(name, entry)
    return chosen


def overrides(space: Mapping[str, Dimension], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe fields that chosen values stand for, numbers of an interval to four digits: more are noise."""
    return {
        field: _rounded(value, space[name])
        for name, value in chosen.items()
        if name in space
        for field in space[name].fields(name)
    }


def _rounded(value: Any, entry: Dimension) -> Any:
    if entry.choices or not isinstance(value, float) or entry.low is None or entry.high is None:
        return value
    # rounding may leave the interval by its last digit
    return min(max(float(f"{value:.4g}"), entry.low), entry.high)


def place_of(space: Mapping[str, Dimension], recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Return where a recipe lies in a space as ``{entry: value}``, and a sentence for each entry that cannot hold it."""
    flat = recipe.flat()
    faults: list[str] = []

    def look_up(name: str, entry: Dimension) -> Any:
        values = [flat[field] for field in entry.fields(name)]
        # one value for several fields cannot be two
        if any(value != values[0] for value in values):
            faults.append(
                f"space.{name}: moves fields together that differ in the reference ({shown(values)})"
            )
        elif not entry.holds(values[0]):
            faults.append(
                f"space.{name}: does not contain the reference, which has {shown(values[0])} ({entry.words()})"
            )
        return values[0]

    return choose(space, look_up), faults


def conditional(space: Mapping[str, Dimension]) -> bool:
    """Return whether any entry depends on another."""
    return any(entry.when for entry in space.values())


def is_whole(entry: Dimension, name: str, recipe: Recipe) -> bool:
    """Return whether the entry's interval is one of whole numbers, as its field is."""
    value = recipe.flat().get(entry.fields(name)[0])
    return isinstance(value, int) and not isinstance(value, bool)


def space_faults(space: Mapping[str, Dimension], base: Recipe) -> list[str]:
    """Return a sentence for everything that is wrong with a space for recipes that depart from ``base``."""
    return [
        fault for name, entry in space.items() for fault in _entry_faults(name, entry, space, base)
    ] + list(_joint_faults(space))


def _entry_faults(
    name: str, entry: Dimension, space: Mapping[str, Dimension], base: Recipe
) -> Iterator[str]:
    place, flat = f"space.{name}", base.flat()
    if name == DUMMY:
        yield f"{place}: the name is taken by the parameter that measures noise"
    unknown = [field for field in entry.fields(name) if field not in flat]
    yield from (f"{place}: {_unknown(field, flat)}" for field in unknown)
    for field in entry.fields(name):
        if field.startswith("data.") and field not in unknown:
            yield f"{place}: {field} decides which images are compared on, so scores would not be comparable"
    whole = not unknown and is_whole(entry, name, base)
    ends = list(entry.choices)
    if entry.choices:
        if entry.low is not None or entry.high is not None or entry.log or entry.step:
            yield f"{place}: takes either choices or low and high"
        if any(entry.choices[i] in entry.choices[:i] for i in range(1, len(entry.choices))):
            yield f"{place}.choices: names a value twice"
        if not all(isinstance(choice, (bool, int, float, str)) for choice in entry.choices):
            yield f"{place}.choices: should be numbers, texts, or true and false"
            return
    elif entry.low is None or entry.high is None or entry.low >= entry.high:
        yield f"{place}: needs choices, or low below high"
    else:
        yield from _interval_faults(place, entry, whole=whole)
        ends = [int(end) if whole and end == int(end) else end for end in (entry.low, entry.high)]
    if not unknown:
        for end in ends:
            yield from (
                f"{place}: {fault}"
                for fault in base.try_overrides(dict.fromkeys(entry.fields(name), end))[1]
            )
    yield from _when_faults(place, entry, space)


def _unknown(field: str, flat: Mapping[str, Any]) -> str:
    """Return why a base recipe has no such field."""
    if open_field(field):
        return f"{field} has no value in [base], and a search begins at one"
    if field in Recipe().flat():
        return f"{field} says nothing to the plug-in that [base] names"
    return f"{field}: no such recipe field{did_you_mean(field, flat)}"


def _interval_faults(place: str, entry: Dimension, *, whole: bool) -> Iterator[str]:
    low, high, step = entry.low or 0.0, entry.high or 0.0, entry.step
    if entry.log and low <= 0:
        yield f"{place}: log needs low above 0"
    if entry.log and step:
        yield f"{place}: takes either log or step"
    if step and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        yield f"{place}.step: does not lead from low to high in whole steps"
    if whole and step and step != int(step):
        yield f"{place}.step: should be a whole number, as the field is"


def _when_faults(place: str, entry: Dimension, space: Mapping[str, Dimension]) -> Iterator[str]:
    for other, values in entry.when.items():
        if other not in space:
            yield f"{place}.when: the space has no entry {other!r}{did_you_mean(other, space)}"
            continue
        for value in values:
            if not space[other].holds(value):
                yield f"{place}.when: {other} never has {shown(value)}"
        if not values:
            yield f"{place}.when.{other}: names no value"


def _joint_faults(space: Mapping[str, Dimension]) -> Iterator[str]:
    """Faults between entries: conditions in a circle, and two entries that may set one field at once."""
    # what is never placed waits for itself
    placed = {name for name, _ in in_order(space)}
    for name, entry in space.items():
        if name not in placed and all(other in space for other in entry.when):
            yield f"space.{name}.when: depends on itself, directly or through others"
    for (name, first), (other, second) in combinations(space.items(), 2):
        shared = sorted(set(first.fields(name)) & set(second.fields(other)))
        # whichever came last would win, and the other would be a parameter without effect
        if shared and not _exclusive(first, second):
            yield f"space.{other}: sets {shared[0]} as space.{name} does; give both a `when` under which only one takes part"


def retune_faults(
    names: tuple[str, ...], space: Mapping[str, Dimension], varied: Mapping[str, str]
) -> list[str]:
    """Return a sentence for everything that is wrong with what a study retunes.

    Args:
        names: entries of the space that every arm is retuned over.
        space: of the study.
        varied: ``{recipe field: where}`` of the fields that tell the study's arms apart.
    """
    if names and not varied:
        return ["retune: the study has no arms, so there is no verdict to check again"]
    faults = [
        f"retune: {name!r} is named twice"
        for name in sorted({one for one in names if names.count(one) > 1})
    ]
    for name in dict.fromkeys(names):
        entry = space.get(name)
        if entry is None:
            faults.append(
                f"retune: the space has no entry {name!r}{did_you_mean(name, space)}; add it to [space]"
            )
            continue
        if entry.when:
            faults.append(
                f"retune: {name} has a condition, so not every arm could be retuned over it"
            )
        for field in entry.fields(name):
            if field in varied:
                faults.append(f"retune: {name} would undo {varied[field]}, which sets {field}")
            if field == "train.epochs":
                faults.append(
                    f"retune: {name} decides what a trial costs, so budgets would not be equal"
                )
    return faults


def _exclusive(first: Dimension, second: Dimension) -> bool:
    # exclusive where one entry decides between the two
    both = first.when.keys() & second.when.keys()
    return any(
        not any(_among(value, second.when[name]) for value in first.when[name]) for name in both
    )


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in values
    )
