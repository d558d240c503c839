"""Studies: one question a file, read from TOML with every fault reported at once.

A ``Study`` as read holds its profiles; ``Study.under(profile)`` folds one of them, and what the
command line sets, into a study without profiles. That form is what is planned, stored, analysed and
written with a report.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.errors import StudyError, UsageError, did_you_mean
from harness.study.files import available_studies
from harness.study.plugin_fields import open_field
from harness.study.profiles import PROFILES, resolve
from harness.study.recipe import Recipe, flatten, shown
from harness.study.script_metrics import MetricRule, rule_faults
from harness.study.script_settings import EnvironmentName, Word, script_faults
from harness.study.space import Dimension, Search, flat_space, retune_faults, space_faults
from harness.study.trial import METRICS
from harness.text import expected, unread

Design = Literal["leave-one-out", "add-one-in", "both", "factorial", "fraction", "sweep", "arms"]
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_NO_FOLDER = "does not name a folder; use letters, digits, '.', '_' and '-'"
_HINT = "`harness new-study NAME` writes a commented file that shows every key"
T = TypeVar("T")
# levels of tables and lists; what recurses over a study never meets Python's own limit
_DEEPEST = 20


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_names(value: object) -> object:
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _flat(value: object) -> object:
    return flatten(value) if isinstance(value, Mapping) else value


def _printable(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("should be printable text")
    return value


Overrides = Annotated[dict[str, Any], BeforeValidator(_flat)]
Label = Annotated[
    str,
    Field(min_length=1, max_length=60),
    BeforeValidator(lambda v: _printable(v) if isinstance(v, str) else v),
]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Whole = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_as_tuple)]


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )


class Factor(_Strict):
    """A component that is switched (``off`` and ``on``) or swept (``levels``).

    ``field`` names one recipe field, or several that move together; then ``off`` and ``on`` are one value for all of them, or
    a list with one for each.
    """

    name: Label
    field: Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]
    off: Any = None
    on: Any = None
    levels: Annotated[tuple[Any, ...], BeforeValidator(_as_tuple)] = ()
    why: str = ""

    def setting(self, value: Any) -> dict[str, Any]:
        """Return the overrides that put the factor at ``value``."""
        if isinstance(value, (list, tuple)) and len(self.field) > 1:
            return dict(zip(self.field, value, strict=True))
        return dict.fromkeys(self.field, value)


class HandArm(_Strict):
    """An arm written by hand: a name, the fields it sets, and why it is there."""

    name: Label
    set: Overrides
    why: str = ""


class Reported(_Strict):
    """What a write-up says of its own run, for a study that trains it again.

    Attributes:
        source: what a sentence calls it.
        metrics: ``{metric: score}``, as our trials store it: shares in [0, 1].
        onset_epoch: after which its validation loss turns up.
        settings: recipe fields that it states and ours may have otherwise.
    """

    source: Label = "the write-up"
    metrics: dict[str, float] = {}
    onset_epoch: float | None = Field(None, gt=0)
    settings: Overrides = {}


class Study(_Strict):
    """A question, the arms that answer it, and the rules of the answer, fixed before the first run.

    ``command`` or ``runner`` name a training script that runs in place of our engine. Then ``base`` holds its
    settings, and factors and arms set those. ``isolate`` gives every run a working folder of its own, into which the named files
    and folders are linked; ``env`` are environment variables of a command. ``hash_imports`` makes local modules that code of
    yours imports part of what identifies a trial. ``table`` names the file of finished runs that a study was made from: its arms are
    known by name, not by recipe. ``pairing`` says how its runs are compared: seed by seed, as two groups, or by means with sd
    and n alone; ``seed_names`` are the names of its seeds where it has some, ``datasets`` those of the data sets that every score
    is the mean over, where there are several; ``family`` is the number of arms that Holm's correction counts, where more were run than are shown. ``gap_margin_pp`` makes the study ask about the overfitting gap, too: nothing is recommended
    that may widen it by more. ``boundary`` is that of the looks (``harness.stats.sequential``).
    ``retune`` names entries of the space that every arm gets a small budget for (``harness.study.retune_settings``); ``settings`` is what
    came of it in the study that this makes: ``{arm: recipe fields}``, on top of what makes the arm one.
    ``reported`` is what a write-up says of the run that this study does again.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str = ""
    question: str = Field(min_length=1, max_length=300)
    why: str = ""
    design: Design = "arms"
    baseline: Label = "reference"
    command: Annotated[tuple[Word, ...], BeforeValidator(_as_tuple)] = ()
    runner: str = ""
    timeout_seconds: float = Field(0.0, ge=0)
    isolate: Annotated[bool | tuple[Word, ...], BeforeValidator(_as_tuple)] = False
    env: dict[EnvironmentName, Word] = {}
    hash_imports: bool = True
    metric: str = "accuracy"
    metrics: dict[str, MetricRule] = {}
    alpha: float = Field(0.05, gt=0, lt=0.5)
    margin_pp: float = Field(gt=0)
    gap_margin_pp: float | None = Field(None, gt=0, le=100)
    # 0 where the file leaves them to the profile; that default is no value that a file may have
    seeds: int = Field(0, ge=1, le=10_000, json_schema_extra=_without_default)
    first_seed: int = Field(0, ge=0, lt=1_000_000)
    looks: Whole = ()
    boundary: Literal["wang-tsiatis", "pocock"] = "wang-tsiatis"
    control: bool = False
    base: Overrides = {}
    factors: Annotated[tuple[Factor, ...], BeforeValidator(_as_tuple)] = ()
    arms: Annotated[tuple[HandArm, ...], BeforeValidator(_as_tuple)] = ()
    search: Search = Search()
    space: Annotated[dict[str, Dimension], BeforeValidator(flat_space)] = {}
    retune: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = ()
    settings: dict[str, Overrides] = {}
    profiles: dict[str, dict[str, Any]] = {}
    profile: str = ""
    table: str = ""
    reported: Reported | None = None
    pairing: Literal["seed", "none", "summary"] = "seed"
    seed_names: Texts = ()
    datasets: Texts = ()
    family: int = Field(0, ge=0)

    @property
    def folder(self) -> str:
        """Name of the study's folder under runs/ and reports/."""
        return f"{self.name}-{self.profile}" if self.profile else self.name

    @property
    def scripted(self) -> bool:
        """Whether a training script runs in place of our engine."""
        return bool(self.command or self.runner)

    @property
    def foreign(self) -> bool:
        """Whether its trials were trained by anything but our engine, of which our recipe's fields say nothing."""
        return self.scripted or bool(self.table)

    @property
    def without_validation(self) -> bool:
        """Whether it keeps no validation images, so that its curves and its scores are of the test set."""
        return not self.foreign and self.base.get("data.val") == 0

    @property
    def base_recipe(self) -> Recipe:
        """The recipe that arms depart from."""
        return Recipe.of_stored({"settings": self.base} if self.scripted else self.base)

    def under(
        self, profile: str, *, overrides: Mapping[str, Any] | None = None, seeds: int | None = None
    ) -> Study:
        """Return the study as it is run under a profile.

        Precedence: reference < built-in profile < [base] < [profiles.X] < overrides < arm. So it is
        with seeds and looks. Of a built-in profile nothing about images holds where any of these
        names others.

        Args:
            profile: quick, small, medium, full, or one of the study's own; of a study that runs a
                script, its own or none ("").
            overrides: recipe fields set on the command line.
            seeds: number of seeds, in place of the profile's.

        Raises:
            UsageError: no such profile, a study that is under another one already (as the copy
                in a report's folder is), or one that was made from a table of finished runs.
            StudyError: the outcome is not a valid study; every fault is listed.
        """
        self.check_runnable()
        source = f"study {self.name!r} under profile {profile!r}"
        if self.profile and profile != self.profile:
            raise UsageError(
                f"study {self.name!r} is under profile {self.profile!r} already, so {profile!r} means nothing to it",
                f"leave --profile out, or take the study that the copy comes from: --study {self.name}",
            )
        if self.profile and not overrides and seeds is None:
            return self
        if not overrides and seeds is None:
            # resolved once when the file is read: a profile that is at fault is then known at once
            return self.once(f"_under_{profile}", lambda: self._resolved(profile, {}, None, source))
        return self._resolved(profile, overrides or {}, seeds, source)

    def _resolved(
        self,
        profile: str,
        overrides: Mapping[str, Any],
        seeds: int | None,
        source: str,
    ) -> Study:
        from harness.study.arms import without_twins_of_baseline

        raw, faults = resolve(_raw(self), profile, overrides, seeds)
        study, found = _checked(raw)
        faults += found
        if study is None or faults:
            if overrides or seeds is not None:  # the file alone was checked when it was read
                raise _refusal_of_asked(faults, overrides, scripted=self.scripted)
            raise _refusal(faults, source)
        return without_twins_of_baseline(study) if overrides else study

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, made once for this study and kept with it under ``name``, which no field has."""
        if name not in self.__dict__:
            self.__dict__[name] = make()
        kept: T = self.__dict__[name]
        return kept

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with fields replaced; nothing that ``once`` kept goes with it."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy

    def check_runnable(self) -> None:
        """Raise a UsageError where there is nothing to run: a study that was made from a table of finished runs."""
        if self.table:
            message = f"study {self.name!r} comes from {self.table}, a table without recipes: there is nothing to run"
            raise UsageError(
                message, "run `harness report --from FOLDER` to write its report again"
            )

    def to_toml(self) -> str:
        """Return the study as a file that ``load_study`` reads back to an equal study."""
        import tomli_w

        dumped = self.model_dump(by_alias=True, exclude_defaults=True)
        return tomli_w.dumps(_without_none({"schema": 1, **dumped}))


def load_study(name: str) -> Study:
    """Read a study by name or from a file.

    Args:
        name: a path to a .toml file, or the name of a study under ``studies/`` here or built in.

    Raises:
        UsageError: there is no such study.
        StudyError: the file has faults; the message lists them all, each with its path in the file.
    """
    path = find_study(name)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors add a mark
    except (OSError, ValueError, RecursionError) as error:
        hint = "a study is a TOML text file in UTF-8; `harness new-study NAME` writes one to start from"
        raise StudyError(unread(path, error), hint) from None
    return parse_study(raw, name=raw.get("name", path.stem), source=str(path))


def parse_study(raw: Mapping[str, Any], *, name: Any, source: str = "study") -> Study:
    """Build a study from parsed TOML; ``source`` names it in errors, as ``load_study`` does."""
    tree = {**raw, "name": name}
    faults: list[str] = []
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name):
        faults.append(f"name: {shown(name)} {_NO_FOLDER}")
    # before pydantic, which would recurse as deep
    if _nested_too_deep(tree):
        raise StudyError(
            f"{source}: tables or lists nested more than {_DEEPEST} deep",
            "a study needs four levels at most",
        )
    if isinstance(tree.get("profile"), Mapping):  # [profile.quick]: read as what it was meant for
        faults.append("profile: no such table (did you mean 'profiles'?)")
        meant, profiles = tree.pop("profile"), tree.get("profiles", {})
        tree["profiles"] = {**meant, **(profiles if isinstance(profiles, Mapping) else {})}

    study, found = _checked(tree)
    faults += found
    if study is None:
        raise _refusal(faults, source)
    # Profiles are folded in even where the file has other faults, so that all are listed at once.
    builtin = () if study.profile or study.table or study.scripted else PROFILES
    for profile in sorted({*builtin, *study.profiles}):
        raw, amended = resolve(_raw(study), profile, {}, None)
        resolved, found = _checked(raw)
        known = set(faults)
        faults += [f"profile {profile}: {one}" for one in [*amended, *found] if one not in known]
        if resolved is not None and not faults:
            study.once(f"_under_{profile}", partial(_same, resolved))
    if faults:
        raise _refusal(faults, source)
    return study


def _same(study: Study) -> Study:
    return study


def find_study(name: str) -> Path:
    """Return the file of a study given by name or path; the user's own ``studies/`` come before the built-in ones.

    Raises:
        UsageError: there is no such study.
    """
    if name.endswith(".toml") or os.sep in name:
        path = Path(name)
        with contextlib.suppress(OSError):  # a name too long for the file system is no study either
            if path.is_file():
                return path
        raise UsageError(
            f"there is no study file {shown(name, 200)}",
            "`harness show` lists the studies that are there",
        )
    known = available_studies()
    if name not in known:
        raise UsageError(
            f"there is no study {name!r}{did_you_mean(name, known)}",
            f"{name}.toml is here: name the file, with its ending"
            if Path(f"{name}.toml").is_file()
            else "a study file ends in .toml; rename yours"
            if Path(name).is_file()
            else "`harness show` lists the studies that are there",
        )
    return known[name]


def _raw(study: Study) -> dict[str, Any]:
    raw = study.model_dump(by_alias=True)
    return raw if study.seeds else {key: value for key, value in raw.items() if key != "seeds"}


def _checked(raw: Mapping[str, Any]) -> tuple[Study | None, list[str]]:
    """Validate a raw study, its overrides included; return it, unless it has no form at all, and every fault."""
    study: Study | None = None
    faults: list[str] = []
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        faults = [_sentence(fault) for fault in error.errors()]
    faults += _override_faults(raw) + _name_faults(raw)
    faults += _agreement_faults(study) if study is not None else []
    return study, list(dict.fromkeys(faults))


def _refusal(faults: list[str], source: str) -> StudyError:
    """Return one error that lists every fault, with the hint that fits."""
    listed = list(dict.fromkeys(faults))
    of_recipe = ("base", "arms[", "factors[", "space")
    hint = _HINT
    if any(fault.startswith(of_recipe) for fault in faults):
        hint = "`harness show fields` lists every recipe field"
    # what else is at fault may be so by that other schema
    if any(fault.startswith("schema:") for fault in faults):
        hint = "this version reads schema 1, so write `schema = 1`; a file of a later schema needs a later harness"
    if len(listed) == 1:
        return StudyError(f"{source}: {listed[0]}", hint)
    return StudyError("\n  - ".join([f"{source} has {len(listed)} faults:", *listed]), hint)


def _refusal_of_asked(
    faults: list[str], overrides: Mapping[str, Any], *, scripted: bool
) -> StudyError:
    """Return one error about what the command line sets, in the command line's own words."""
    listed, named = [], []
    for fault in dict.fromkeys(faults):
        bare = fault.removeprefix("base.")
        name = bare.partition(":")[0]
        if name in overrides:
            named.append(name)
            listed.append(f"--set {bare}")
        elif name == "seeds":
            listed.append(f"--{bare}")
        else:  # a value that agrees with its field, and not with the rest of the study
            listed.append(f"with --base or --set as given, {bare}")
    hint = "`harness show fields` lists every recipe field"
    if scripted:
        hint = "--set changes what [base] of the study file names"
    elif all(one.startswith("--seeds") for one in listed):
        hint = "for example --seeds 8"
    elif len(listed) == len(named) == 1 and "no such" not in listed[0]:
        hint = f"`harness show {named[0]}` explains it"
    if len(listed) == 1:
        return StudyError(listed[0], hint)
    return StudyError("\n  - ".join([f"{len(listed)} faults on the command line:", *listed]), hint)


def _override_faults(raw: Mapping[str, Any]) -> list[str]:
    """Check every set of overrides of a raw study against the recipe, even where other parts of it are broken."""
    base = raw.get("base", {})
    if not isinstance(base, Mapping):
        return []
    recipe, base_faults = _recipe_of(
        flatten(base), scripted=bool(raw.get("command") or raw.get("runner"))
    )
    faults = [f"base.{fault}" for fault in base_faults]
    if base_faults and (raw.get("command") or raw.get("runner")):
        return faults  # what the arms may set is not known
    # a broken base is reported once: what it names still decides which fields there are
    named = {
        name: value
        for name, value in flatten(base).items()
        if name.endswith(".name") or name.startswith("model.kwargs.")
    }
    recipe = recipe or Recipe().try_overrides(named)[0] or Recipe()
    for index, arm in enumerate(_tables(raw.get("arms"))):
        if isinstance(arm.get("set"), Mapping):
            faults += [
                f"arms[{arm.get('name', index)}].set.{fault}"
                for fault in recipe.try_overrides(flatten(arm["set"]))[1]
            ]
    for index, factor in enumerate(_tables(raw.get("factors"))):
        place = f"factors[{factor.get('name', index)}]"
        names = _as_names(factor.get("field"))
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            continue
        values = [(key, factor[key]) for key in ("off", "on") if factor.get(key) is not None]
        levels = factor.get("levels")
        values += [
            (f"levels[{i}]", level)
            for i, level in enumerate(levels if isinstance(levels, (list, tuple)) else [])
        ]
        for key, value in values:
            listed = (
                list(value)
                if isinstance(value, (list, tuple)) and len(names) > 1
                else [value] * len(names)
            )
            if len(listed) != len(names):
                faults.append(f"{place}.{key}: gives {len(listed)} values for {len(names)} fields")
                continue
            faults += [
                f"{place}.{key}: {fault}"
                for fault in recipe.try_overrides(dict(zip(names, listed, strict=True)))[1]
            ]
    return faults


def _recipe_of(base: Mapping[str, Any], *, scripted: bool) -> tuple[Recipe | None, list[str]]:
    return Recipe.of_settings(base) if scripted else Recipe().try_overrides(base)


def _agreement_faults(study: Study) -> list[str]:
    """What pydantic cannot see: names used twice, factors without values, looks that do not end at the seeds."""
    faults = [
        f"profiles: {shown(name)} {_NO_FOLDER}"
        for name in study.profiles
        if not _SAFE_NAME.fullmatch(name)
    ]
    if study.profile and not _SAFE_NAME.fullmatch(study.profile):
        faults.append(f"profile: {shown(study.profile)} {_NO_FOLDER}")
    swept = study.design == "sweep"
    # a broken base has been reported where it is
    recipe = _recipe_of(study.base, scripted=study.scripted)[0] or Recipe()
    for factor in study.factors:
        if swept and len(factor.levels) < 2:
            faults.append(f"factors[{factor.name}].levels: a sweep needs at least two levels")
        faults += [
            f"factors[{factor.name}]: {field} has no value in [base], and a sweep begins at one"
            for field in (factor.field if swept else ())
            if open_field(field) and field not in recipe.flat()
        ]
        if not swept and (factor.off is None or factor.on is None):
            faults.append(f"factors[{factor.name}]: design {study.design!r} needs both off and on")
    if study.design != "arms" and not study.factors:
        faults.append(f"factors: design {study.design!r} needs at least one [[factors]] table")
    if study.design == "arms" and study.factors:
        faults.append(
            "design: 'arms' takes [[arms]] only; name the design that [[factors]] are for"
        )
    faults += _seed_faults(study)
    faults += _table_faults(study) + _script_faults(study) + _reported_faults(study.reported)
    return (
        faults
        + space_faults(study.space, recipe)
        + retune_faults(study.retune, study.space, _varied(study))
    )


def _table_faults(study: Study) -> list[str]:
    """What a study made from a table may not have, and what only such a study may."""
    faults = []
    if not study.foreign and study.margin_pp > 100:
        faults.append(f"margin_pp: should be at most 100 (given: {study.margin_pp:g})")
    of_table = (study.pairing != "seed", study.seed_names, study.datasets, study.family)
    if not study.table and any(of_table):
        faults.append("pairing, seed_names, datasets, family: are for a study made from a table")
    if study.table and (
        study.design != "arms" or study.base or study.space or any(arm.set for arm in study.arms)
    ):
        faults.append(
            "table: arms of a table are known by name alone: design 'arms', no base, no space, every set empty"
        )
    return faults


def _script_faults(study: Study) -> list[str]:
    """What a study that runs a script may not say of its command and of the numbers it writes."""
    raw = _raw(study)
    faults = script_faults(raw)
    for name, rule in raw["metrics"].items() if study.scripted else ():
        faults += rule_faults(name, rule, by_function=bool(study.runner))
    return faults


def _reported_faults(reported: Reported | None) -> list[str]:
    """Metrics and recipe fields of a write-up that nobody could compare with ours."""
    if reported is None:
        return []
    unknown = [name for name in reported.metrics if name not in METRICS]
    faults = [
        f"reported.metrics: no such metric {name!r}{did_you_mean(name, list(METRICS))}"
        for name in unknown
    ]
    # only the names count: what a write-up stated need not be a recipe that ours would accept
    fields = Recipe().flat()
    return faults + [
        f"reported.settings: no such field {name!r}{did_you_mean(name, list(fields))}"
        for name in reported.settings
        if name not in fields
    ]


def _name_faults(raw: Mapping[str, Any]) -> list[str]:
    """Names used twice, and arms that are the baseline or each other by what is written; even where other parts are broken."""
    faults: list[str] = []
    for kind in ("factors", "arms"):
        names = [
            part["name"] for part in _tables(raw.get(kind)) if isinstance(part.get("name"), str)
        ]
        faults += [
            f"{kind}: the name {name!r} is used twice"
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
    if raw.get("table"):
        return faults
    made = _made_names(raw)
    written = [arm for arm in _tables(raw.get("arms")) if isinstance(arm.get("name"), str)]
    baseline = raw.get("baseline", "reference")
    faults += [
        f"arms: {baseline!r} is the baseline, which is no arm of its own"
        for arm in written
        if arm["name"] == baseline
    ] + [
        f"arms: {arm['name']!r} is the name of an arm that the design makes of its factors"
        for arm in written
        if arm["name"] in made
    ]
    # A profile may tell apart what the file alone does not: `arms` compares what is run.
    profiles = raw.get("profiles")
    tables = profiles.values() if isinstance(profiles, Mapping) else ()
    changed = {
        name
        for table in tables
        if isinstance(table, Mapping) and isinstance(table.get("arms"), Mapping)
        for name in table["arms"]
    }
    sets = [(arm["name"], _flat(arm.get("set"))) for arm in written]
    for place, (name, fields) in enumerate(sets):
        twin = next((other for other, set_ in sets[:place] if set_ == fields), None)
        if twin is not None and isinstance(fields, dict) and fields and not changed & {name, twin}:
            faults.append(f"arms[{name}].set: is that of {twin!r}, so nothing is compared")
    return faults


def _made_names(raw: Mapping[str, Any]) -> set[str]:
    """Names of the arms that ``arms`` makes by switching one factor off or on."""
    design, names = raw.get("design"), [part.get("name") for part in _tables(raw.get("factors"))]
    made = {f"no-{name}" for name in names} if design in ("leave-one-out", "both") else set()
    if design in ("add-one-in", "both"):
        made |= {"none", *(f"only-{name}" for name in names)}
    return made


def _seed_faults(study: Study) -> list[str]:
    # before a profile is chosen, the seeds may be the profile's to give
    final = bool(study.profile or study.table) or (study.scripted and not study.profiles)
    faults = ["seeds: is missing"] if final and not study.seeds else []
    if study.looks and (
        list(study.looks) != sorted(set(study.looks))
        or study.looks[-1] != (study.seeds or study.looks[-1])
    ):
        faults.append(
            f"looks: should rise and end at seeds = {study.seeds} (given: {list(study.looks)})"
        )
    return faults


def _varied(study: Study) -> dict[str, str]:
    """Return ``{recipe field: where the study sets it for some arms and not for others}``."""
    varied = {
        field: f"factors[{factor.name}]" for factor in study.factors for field in factor.field
    }
    return varied | {field: f"arms[{arm.name}]" for arm in study.arms for field in arm.set}


def _tables(value: object) -> list[Mapping[str, Any]]:
    return (
        [item for item in value if isinstance(item, Mapping)]
        if isinstance(value, (list, tuple))
        else []
    )


def _sentence(fault: Any) -> str:
    """One sentence for a fault found by pydantic: where, what was expected, what was given."""
    *above, last = fault["loc"]
    if fault["loc"][0] == "isolate":  # pydantic reports each branch of the union
        return f"isolate: should be true, false or a list of files (given: {shown(fault['input'])})"
    place = ".".join(
        f"[{part}]" if isinstance(part, int) else str(part) for part in fault["loc"]
    ).replace(".[", "[")
    owners: dict[str, type[BaseModel]] = {
        "factors": Factor,
        "arms": HandArm,
        "metrics": MetricRule,
        "space": Dimension,
        "search": Search,
        "reported": Reported,
    }
    owner = owners.get(str(above[0]) if above else "", Study)
    if fault["type"] == "extra_forbidden":
        # the keys that are near a misspelt one are those of its own table
        known = [
            info.alias or name
            for name, info in owner.model_fields.items()
            if name not in ("profile", "settings")
        ]
        return f"{place}: no such key{did_you_mean(str(last), known)}"
    if fault["type"] == "missing":
        return f"{place}: is missing"
    field = owner.model_fields.get(str(last))
    limits = field.metadata if field is not None else ()
    return f"{place}: {expected(fault, limits)} (given: {shown(fault['input'])})"


def _nested_too_deep(value: object) -> bool:
    level = [value]
    # level by level and not by recursion, which is what deep nesting would break
    for _ in range(_DEEPEST):
        inner = [
            item.values() if isinstance(item, Mapping) else item
            for item in level
            if isinstance(item, (Mapping, list, tuple))
        ]
        level = [part for items in inner for part in items]
    return any(isinstance(item, (Mapping, list, tuple)) for item in level)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
