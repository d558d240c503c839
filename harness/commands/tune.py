"""``tune``: from a study with a space to a confirmed recipe, through search, confirmation and report.

A run of two phases: the search (``search_phase``), and the ordinary study of ``confirm``, whose
report is the search's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from harness.commands.before import check_asked, check_writable
from harness.commands.choose_profile import choose_profile, command
from harness.commands.ending import after
from harness.commands.facts import OnEvent, TuneOutcome, TunePlan
from harness.commands.finished import latest_profile, recall, remember, when_finished
from harness.commands.place import RUNS, Place
from harness.commands.run import REPORTS
from harness.commands.search_phase import SearchPhase, count, ruled
from harness.config import is_device
from harness.errors import StudyError, UsageError
from harness.study.space import conditional, place_of
from harness.study.study import Study, load_study
from harness.text import plural


def tune(
    study: Study | str = "tune",
    *,
    trials: int | None = None,
    profile: str | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    sampler: Literal["tpe", "gp", "random"] | None = None,
    pruner: Literal["median", "none"] | None = None,
    workers: int | None = None,
    storage: str | None = None,
    artifacts: str | None = None,
    device: str = "auto",
    place: Place = Place(),  # noqa: B008 - frozen
    timeout: float | None = None,
    dry_run: bool = False,
    on_event: OnEvent = lambda _: None,
) -> TuneOutcome:
    """Search a study's space for a recipe that beats the reference, run the best again on fresh seeds, and report.

    Call it again to go on where it stopped; with more ``trials`` it searches further.

    Args:
        study: a study with a space, its name, or a study file.
        trials: budget of the search; None for the study's (50 unless it says otherwise).
        profile: quick, small, medium, full or the study's own; None takes the largest that fits
            here.
        seeds: fresh seeds of the confirmation, in place of the profile's.
        overrides: recipe fields of the reference and of every trial, after the profile's.
        sampler: tpe, gp or random, in place of the study's.
        pruner: median or none, in place of the study's.
        workers: processes; None lets timed steps decide.
        storage: where the ledgers are kept; None for ``runs/<study>-<profile>/journal.log``.
        artifacts: folder for curves.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        place: what starts the workers: this machine, or SLURM or Ray on a database.
        timeout: seconds from now (on a cluster: from a task's start) after which no new trial
            starts.
        dry_run: plan only; write nothing.
        on_event: given ``TunePlan``, ``ProgressFacts`` and lines of text as they come.

    Raises:
        HarnessError: nothing ran: the study, its space, the images or the storage has a fault.
        UnreportedError: trials ran, and writing their report failed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    source = study if isinstance(study, str) else study.name
    loaded = load_study(study) if isinstance(study, str) else study
    _check_search(loaded)
    check_asked(loaded, profile, overrides=overrides, seeds=seeds)
    rules = _rules(trials=trials, sampler=sampler, pruner=pruner)
    if not (storage or artifacts or dry_run) and place.here and is_device(device):
        kept = _finished(
            loaded, profile, rules, seeds=seeds, overrides=overrides, on_event=on_event
        )
        if kept is not None:
            return kept

    chosen, why = profile or loaded.profile, "as asked"
    if not chosen:
        chosen, why = choose_profile(
            loaded,
            device=place.timed_on(device),
            on_event=on_event,
            count=lambda one: count(ruled(one, rules)),
        )
    resolved = ruled(loaded.under(chosen, overrides=overrides, seeds=seeds), rules)
    _check(resolved)
    _check_place(place, storage)
    place.check(device=device, workers=workers, timeout=timeout)
    check_writable(*([] if dry_run else (RUNS, REPORTS)))

    asked = partial(_asked, source, profile=chosen, seeds=seeds, overrides=overrides, rules=rules)
    search = SearchPhase.prepare(
        resolved,
        why,
        workers=workers,
        device=device,
        storage=storage,
        artifacts=artifacts,
        place=place,
        source=source,
        asked=asked(),
        larger=lambda larger: asked(profile=larger),
    )
    return _run(search, deadline, asked, dry_run=dry_run, on_event=on_event)


def _rules(**given: Any) -> dict[str, Any]:
    """Return the rules of a search that are given."""
    return {name: value for name, value in given.items() if value is not None}


def _asked(
    source: str,
    *,
    profile: str,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    rules: Mapping[str, Any],
) -> str:
    """Return the command of a search."""
    flags = " ".join(f"--{name} {value}" for name, value in rules.items())
    return command(source, profile, seeds=seeds, overrides=overrides, flags=flags, verb="tune")


def _finished(
    loaded: Study,
    profile: str | None,
    rules: Mapping[str, Any],
    *,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    on_event: OnEvent,
) -> TuneOutcome | None:
    """Return what the finished search said, if it is the one asked for; without a profile, the latest."""
    name = ruled(loaded, {}).name
    chosen = profile or loaded.profile
    chosen = chosen or latest_profile(loaded, overrides=overrides, seeds=seeds, name=name)
    if not chosen:
        return None
    resolved = loaded.under(chosen, overrides=overrides, seeds=seeds)
    resolved = ruled(resolved, rules)
    kept = recall(resolved, TuneOutcome, TunePlan)
    if kept is not None:
        done = plural(kept.counts.get("total", kept.plan.cells), "trial")
        on_event(f"nothing to run: {resolved.folder} finished on {when_finished(resolved)}, {done}")
        if not (profile or loaded.profile):
            on_event(f"profile {chosen}: the latest that finished; --profile takes another")
    return kept


def _run(
    search: SearchPhase,
    deadline: float | None,
    asked: Callable[..., str],
    *,
    dry_run: bool,
    on_event: OnEvent,
) -> TuneOutcome:
    """Run a prepared search, or only say what it would do; the outcome has the next step."""
    study = search.study
    if dry_run:
        facts = search.facts(*search.already_done())
        on_event(facts)
        return TuneOutcome(study.name, study.profile, facts, next_command=asked(), dry=True)

    outcome = search.run_all(deadline, on_event)
    following = after(
        outcome,
        asked=asked,
        larger=search.next_command(),
        confirmable=False,
        settled=bool(outcome.improved),
        left_out=search.at_size(),
    )
    outcome = replace(outcome, next_command=following)
    if (
        search.storage is None
        and search.artifacts is None
        and search.place.here
        and not search.code
    ):
        remember(outcome, study, datasets=[study.base_recipe.data.name])
    return outcome


def _check_search(study: Study) -> None:
    if study.scripted:
        raise UsageError(
            f"study {study.name!r} runs a training script, and a search needs our engine",
            "`harness ablate` runs it; `harness show tune` shows a study that can be searched",
        )
    if not any(one.get("space") for one in (study.model_dump(), *study.profiles.values())):
        raise _no_space(study.name)


def _check_place(place: Place, storage: str | None) -> None:
    """Refuse shards for a search: which recipe comes next depends on all trials so far, and a shard sees only its own."""
    if not place.here and "://" not in (storage or ""):
        raise UsageError(
            f"a search on {place.launcher} needs a database: each of its trials looks at all earlier ones",
            "`--storage postgresql+psycopg://user@host/database`, or `--launcher local`",
        )


def _no_space(name: str) -> UsageError:
    return UsageError(f"study {name!r} has no [space]", "`harness show tune` shows one that has")


def _check(study: Study) -> None:
    """Refuse a space that is empty, does not hold the reference, or does not suit the search."""
    if not study.space:
        raise _no_space(study.name)
    faults = place_of(study.space, study.base_recipe)[1]
    if study.search.pruner == "median" and any(
        "train.epochs" in entry.fields(name) for name, entry in study.space.items()
    ):
        faults.append(
            "search.pruner: 'median' compares trials by epoch, but train.epochs is in the space; use 'none'"
        )
    if study.search.sampler == "gp" and conditional(study.space):
        names = ", ".join(name for name, entry in study.space.items() if entry.when)
        faults.append(
            f"search.sampler: 'gp' does not model entries with a condition ({names}); use 'tpe'"
        )
    if faults:
        raise StudyError(
            f"study {study.name!r} under profile {study.profile!r}: " + "; ".join(faults),
            "widen the space, or change the reference with [base], the profile or --set",
        )
