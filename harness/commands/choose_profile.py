"""Which study is run: the profile that fits, the recommended recipe, the next size up."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.facts import OnEvent
from harness.config import DEVICE_NAMES, is_device
from harness.errors import HarnessError, UsageError
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.profiles import PROFILES, builtin_profiles
from harness.study.retune_settings import most_trials
from harness.study.study import HandArm, Study, load_study
from harness.text import duration

if TYPE_CHECKING:
    from harness.study.recipe import Recipe
    from harness.train.timing import Layout

# without --profile, a larger profile is taken only when its estimate stays within this
AUTO_SECONDS = 15 * 60


def all_trials(study: Study) -> int:
    """Return how many trials an ablation takes, with what retuning adds at most."""
    return len(cells(study, "")) + most_trials(study)


def timing_words(profile: str, why: str) -> str:
    """Return what is said before steps are timed: of what, roughly for how long, and why."""
    of = f" of profile {profile}" if profile else ""
    return f"timing a few steps{of}, some 10 s, {why}"


def choose_profile(
    study: Study,
    *,
    device: str = "auto",
    on_event: OnEvent = lambda _: None,
    count: Callable[[Study], int] = all_trials,
) -> tuple[str, str]:
    """Return (profile, why): the largest whose images are here and whose timed estimate is within 15 minutes, else quick.

    A study that runs a script is taken as its file has it, without a profile: ("", "").
    Nothing is downloaded, and nothing is refused. The study counts as its file has it, so that
    fewer seeds or epochs for a first look never lead to a larger profile. ``count`` says how many
    trials a study takes under a profile.
    """
    if study.scripted:  # its own profiles are for those who ask for them
        return "", ""
    from harness.train import data
    from harness.train.timing import choose_layout, has_gpu

    reasons: list[str] = []
    for name in reversed(PROFILES[1:]):
        resolved = study.under(name)
        recipe = arms(resolved)[0].recipe
        if not data.available(recipe.data.name):
            reasons.append(f"{name} needs {recipe.data.name}, which is not here")
        elif name == "full" and (device == "cpu" or not has_gpu()):
            reasons.append("full needs a GPU")
        else:
            on_event(timing_words(name, f"to see if it fits in {duration(AUTO_SECONDS)}"))
            try:
                layout = choose_layout(recipe, device=device)
            except HarnessError as error:
                reasons.append(f"{name}: {error.message}")
                continue
            seconds = layout.timing.seconds * count(resolved) / layout.workers
            if seconds <= AUTO_SECONDS:
                return name, f"the largest that fits in {duration(AUTO_SECONDS)}"
            reasons.append(f"{name} would take {duration(seconds)}")
    return "quick", f"the smallest, since {', '.join(reasons)}"


def recommended_study(study: Study, reports: Path) -> Study:
    """Return the study that runs a study's recommended recipe against its baseline, on fresh seeds.

    Raises:
        UsageError: there is no report to recommend anything, or what it recommends is the baseline.
    """
    from harness.report import read_analysis

    folder = reports / study.folder
    if not (folder / "analysis.json").is_file():
        raise UsageError(
            f"{study.folder} has no report yet, so nothing is recommended",
            f"run `{command(study.name, study.profile)}` first",
        )
    analysis = read_analysis(folder)
    changes, before = analysis.recommended, analysis.study
    if not changes:
        raise UsageError(
            f"{study.folder} recommends its baseline as it is", "there is nothing to run"
        )
    baseline = arms(study)[0].recipe
    return study.model_copy(
        update={
            "name": f"{study.name}-recommended",
            "question": f"Does the recipe that {study.name} recommends beat its baseline on fresh seeds?",
            "design": "arms",
            "base": baseline.changed(),
            "factors": (),
            "arms": (
                HandArm(name="recommended", set=changes, why=f"recommended by {study.folder}"),
            ),
            "looks": (),
            "retune": (),
            # whatever number of seeds is asked for now
            "first_seed": before.first_seed + before.seeds,
        }
    )


def check_device(device: str) -> None:
    """Check that a device can be had here, before anything is timed on it.

    Raises:
        UsageError: it is no name of a device, or this machine has no such device.
    """
    from harness.train.devices import number_of

    if not is_device(device):
        raise UsageError(f"there is no device {device!r}", f"devices: {DEVICE_NAMES}")
    kind, _, index = device.partition(":")
    if kind in ("auto", "cpu"):
        return

    number = number_of(kind)
    if int(index or 0) >= number:
        sees = f"{number} of them" if number else "none"
        raise UsageError(
            f"device {device!r} was asked for and torch sees {sees}",
            "`--device auto` takes what is there",
        )


def command(
    source: str,
    profile: str,
    *,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    flags: str = "",
    verb: str = "ablate",
) -> str:
    """Return the command that runs a study under a profile, to be pasted into a shell.

    Args:
        source: the study's name or its file.
        profile: by name; empty for a study as its file has it.
        seeds: number of seeds, in place of the profile's.
        overrides: recipe fields.
        flags: more of the command, as it is.
        verb: ablate or tune.
    """
    sets = (
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in (overrides or {}).items()
    )
    parts = [
        f"harness {verb} --study {shlex.quote(source)}",
        *([f"--profile {shlex.quote(profile)}"] if profile else []),
    ]
    parts += [f"--seeds {seeds}"] if seeds is not None else []
    parts += [f"--set {shlex.quote(text)}" for text in sets]
    return " ".join([*parts, flags]).rstrip()


def next_size(
    study: Study,
    layout: Layout,
    source: str,
    *,
    line: Callable[[str], str],
    overrides: Mapping[str, Any] | None = None,
    trials: Callable[[Study], int] = all_trials,
) -> str:
    """Return the command for the next size up with what it would cost here; empty at the largest.

    It never runs a plug-in, whose net need not fit the images of another size, and it
    never fails a run.

    Args:
        study: under the present profile.
        layout: how trials are run here, with the speed that was timed.
        source: the study's name or its file.
        line: gives the command for a profile.
        overrides: recipe fields that the command sets.
        trials: counts what a study takes.
    """
    if study.profile not in PROFILES[:-1]:
        return ""
    profile = PROFILES[PROFILES.index(study.profile) + 1]
    try:
        larger = load_study(source).under(profile, overrides=overrides)
    except HarnessError:  # a study built in a program has no file to look up
        return ""
    try:
        cost = _cost(arms(larger)[0].recipe, layout, trials(larger), profile)
    except Exception:  # noqa: BLE001 - what is run is done; a guess at something else must not spoil it
        cost = ""
    why = "; ".join(filter(None, (cost, _kept(profile, overrides or {}))))
    return f"{line(profile)}   # {why}" if why else line(profile)


def _kept(profile: str, overrides: Mapping[str, Any]) -> str:
    """Return in words which overrides replace what a size sets for itself: they were meant for another one."""
    own = builtin_profiles()[profile]
    kept = [
        f"{name} = {value} ({profile} has {own[name]})"
        for name, value in overrides.items()
        if name in own and own[name] != value
    ]
    return f"it keeps {', '.join(kept)}" if kept else ""


def _cost(recipe: Recipe, layout: Layout, trials: int, profile: str) -> str:
    """Return in words what trials of a recipe would cost here; empty where only the user's code could tell."""
    from harness.train import data
    from harness.train.timing import extrapolate, has_gpu

    info = next((known for known in data.describe() if known.name == recipe.data.name), None)
    if info is None or recipe.plugins():
        return ""
    rate = layout.timing.mflops_per_second * layout.workers
    each = extrapolate(recipe, info.shape_CHW, info.classes, info.images - info.test_images, rate)
    cost = f"about {duration(each * trials)} on this machine, guessed from counted operations"
    if profile == "full" and not has_gpu():
        cost += "; meant for a GPU"
    if not info.present:
        cost += f"; first: {info.how}"
    return cost
