"""Profiles: what a study changes for a size of run, and how it is folded in.

Works on a study's tables as read from TOML, before they are a ``Study``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.study.plugin_fields import carried, owned
from harness.study.recipe import flatten
from harness.study.space import flat_space

PROFILES = ("quick", "small", "medium", "full")
# keys of a study that a profile replaces
_RULES = ("seeds", "first_seed", "looks", "margin_pp", "gap_margin_pp")
_OBSERVED = "observed"  # table of profiles.toml that is no profile: what runs of each profile found
# keys of a profile that are not recipe fields
_SPECIAL = (*_RULES, "factors", "arms", "space", "search")


@cache
def builtin_profiles() -> dict[str, dict[str, Any]]:
    """Return the built-in profiles: ``{name: {recipe field or seeds: value}}``, read from profiles.toml."""
    return {name: flatten(table) for name, table in _read().items() if name != _OBSERVED}


@dataclass(frozen=True, slots=True)
class Observed:
    """What the committed reports of a profile found of the spread between seeds, in pp of validation accuracy.

    Attributes:
        reports: names of their folders.
        trials, contrasts: arms' runs and differences of two arms that the figures are pooled over.
        images: validation images of those runs.
        accuracy: mean of all arms, in %.
        sd, sd_images: between seeds of one arm, and the part of it that so few images make.
        paired_sd, paired_sd_images: the same of the difference of two arms at one seed.
    """

    reports: tuple[str, ...]
    trials: int
    contrasts: int
    images: int
    accuracy: float
    sd: float
    sd_images: float
    paired_sd: float
    paired_sd_images: float


def observed(profile: str) -> Observed | None:
    """Return what runs of a built-in profile found; None where no report of it is committed.

    `tools/profile_figures.py` writes the figures, a test compares them with the reports: a wheel
    has no reports.
    """
    table = _read().get(_OBSERVED, {}).get(profile)
    return Observed(**{**table, "reports": tuple(table["reports"])}) if table else None


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(
        (Path(__file__).resolve().parent / "profiles.toml").read_text(encoding="utf-8")
    )


def resolve(
    raw: dict[str, Any], profile: str, overrides: Mapping[str, Any], seeds: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Fold a profile, overrides and a seed count into a raw study; return it and the faults met on the way."""
    table, builtin = raw["profiles"].get(profile, {}), {} if _scripted(raw) else builtin_profiles()
    if profile not in (
        raw["profiles"].keys()
        | builtin.keys()
        | ({""} if _scripted(raw) else set())
        | ({raw["profile"]} if raw["profile"] else set())  # a study that is under it already
    ):
        there = list(dict.fromkeys([*builtin, *raw["profiles"]]))
        hint = (
            f"profiles: {', '.join(there)}"
            if there
            else "its file has no [profiles]: leave out --profile"
        )
        raise UsageError(f"there is no profile {profile!r}{did_you_mean(profile, there)}", hint)
    out = {**raw, "profiles": {}, "profile": profile}

    # What the file says for itself lies on top of the built-in profile, and its own profile on top
    # of both.
    own = flatten({key: value for key, value in table.items() if key not in _SPECIAL})
    layers = (raw["base"], own, overrides)
    suitable = preset = _suitable(builtin.get(profile, {}), layers)
    for layer in layers:
        preset = {**carried(preset, layer), **layer}
    # a net that a later layer replaces by ours has taken our sizes with it: they count again
    out["base"] = {**suitable, **preset}

    # by name, so that a profile can change one arm and leave the others
    faults = _amend_parts(out, table, f"profiles.{profile}.")
    _amend_search(out, table, f"profiles.{profile}.", faults)
    _amend_seeds(out, table, builtin.get(profile, {}), seeds)
    return out, faults if "seeds" in out else [*faults, "seeds: is missing"]


def _scripted(raw: Mapping[str, Any]) -> bool:
    """Whether a training script runs: what our engine trains at one size does not apply to it."""
    return bool(raw.get("command") or raw.get("runner"))


def _suitable(preset: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the recipe fields of a built-in profile that mean something for the images and the net that the layers name."""
    net = _named(layers, "model.name")
    fields = {
        name: value
        for name, value in preset.items()
        if name not in _SPECIAL and name not in owned("model", net)
    }
    if _named(layers, "data.name") in ("", fields.get("data.name")):
        return fields

    # Sizes, numbers of images and the crop were chosen for the profile's own images.
    return {
        name: value
        for name, value in fields.items()
        if not name.startswith("data.") and name != "augment.crop"
    }


def _amend_seeds(
    out: dict[str, Any], table: Mapping[str, Any], builtin: Mapping[str, Any], seeds: int | None
) -> None:
    """Settle seeds, looks and margin: those asked for, else the profile's of the file, the file's, the built-in profile's."""
    # the last look is at the last seed, by the rule that is checked later
    if "seeds" not in out and out["looks"]:
        out["seeds"] = out["looks"][-1]
    elif "seeds" not in out and "seeds" in builtin:
        out["seeds"] = builtin["seeds"]
    if "seeds" in table:
        out["looks"] = ()  # looks are declared for a number of seeds and fall with it
    out.update({key: table[key] for key in _RULES if key in table})
    if seeds is not None:
        out["seeds"], out["looks"] = seeds, ()


def _amend_parts(out: dict[str, Any], table: Mapping[str, Any], origin: str) -> list[str]:
    """Apply a profile's changes to factors and arms, name by name; return the faults."""
    faults: list[str] = []
    factors: dict[str, dict[str, Any]] = {factor["name"]: dict(factor) for factor in out["factors"]}
    arms: dict[str, dict[str, Any]] = {
        arm["name"]: {**arm, "set": dict(arm["set"])} for arm in out["arms"]
    }
    for kind, known, allowed in (
        ("factors", factors, {"off", "on", "levels"}),
        ("arms", arms, {"set", "drop"}),
    ):
        changes = table.get(kind, {})
        if not isinstance(changes, Mapping):
            faults.append(f"{origin}{kind}: should be a table of names")
            continue
        for name, change in changes.items():
            place = f"{origin}{kind}.{name}"
            if name not in known:
                faults.append(
                    f"{place}: the study has no such {kind[:-1]}{did_you_mean(name, known)}"
                )
            elif not isinstance(change, Mapping) or not set(change) <= allowed:
                faults.append(f"{place}: should be a table with {', '.join(sorted(allowed))}")
            elif change.get("drop"):
                del known[name]
            elif "set" in change:
                known[name]["set"] = (
                    flatten(change["set"]) if isinstance(change["set"], Mapping) else change["set"]
                )
            else:
                known[name].update(change)
    out["factors"], out["arms"] = tuple(factors.values()), tuple(arms.values())
    return faults


def _named(layers: Sequence[Mapping[str, Any]], field: str) -> str:
    """Return what the last of some overrides calls the net or the images; empty where none does."""
    return str(next((fields[field] for fields in reversed(layers) if field in fields), ""))


def _amend_search(
    out: dict[str, Any], table: Mapping[str, Any], origin: str, faults: list[str]
) -> None:
    """Apply a profile's changes to the space, entry by entry, and to the rules of the search."""
    rules, space = table.get("search", {}), flat_space(table.get("space", {}))
    for name, value in (("search", rules), ("space", space)):
        if not isinstance(value, Mapping):
            faults.append(f"{origin}{name}: should be a table")
    if isinstance(rules, Mapping):
        out["search"] = {**out["search"], **rules}
    if isinstance(space, Mapping):
        dropped = [
            name
            for name, entry in space.items()
            if isinstance(entry, Mapping) and entry.get("drop")
        ]
        faults += [
            f"{origin}space.{name}: the space has no such entry{did_you_mean(name, out['space'])}"
            for name in dropped
            if name not in out["space"]
        ]
        kept = {**out["space"], **space}
        out["space"] = {name: entry for name, entry in kept.items() if name not in dropped}
