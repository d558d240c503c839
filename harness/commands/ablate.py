"""``ablate``: from a study's name to a finished report, through plan, ledger and workers.

Start with ``ablate``: an outcome that is there already, or phases, prepared and run (``run``): the
study itself (``arms_phase``) and, where it retunes its arms, its settings and the retuned arms
(``retune``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from harness.commands.arms_phase import ArmsPhase
from harness.commands.before import check_asked, check_writable, replaced_report
from harness.commands.choose_profile import (
    choose_profile,
    command,
    recommended_study,
    timing_words,
)
from harness.commands.ending import after, nothing_learned, read_analysis_plain, unstable_arms
from harness.commands.facts import ArmTable, OnEvent, Outcome, PlanFacts
from harness.commands.finished import latest_profile, recall, remember, when_finished
from harness.commands.place import RUNS, Place
from harness.commands.retune import SettingsPhase, run_retuned
from harness.commands.run import REPORTS, run_phases
from harness.config import is_device
from harness.errors import UsageError
from harness.study.study import Study, load_study
from harness.text import plural


def ablate(
    study: Study | str,
    *,
    profile: str | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    storage: str | None = None,
    artifacts: str | None = None,
    device: str = "auto",
    place: Place = Place(),  # noqa: B008 - frozen
    timeout: float | None = None,
    screen: bool = False,
    recommended: bool = False,
    retry_failed: bool = False,
    dry_run: bool = False,
    on_event: OnEvent = lambda _: None,
) -> Outcome:
    """Run the unfinished cells of a study, and write its report.

    A study that retunes then runs the settings of its arms and the retuned arms, and the report has
    both verdicts.

    Args:
        study: a study, its name, or a study file.
        profile: quick, small, medium, full or the study's own; None takes what fits here (see
            ``choose_profile``).
        seeds: number of seeds, in place of the profile's.
        overrides: recipe fields, between the profile's and the arms'.
        workers: processes; None lets timed steps decide.
        storage: where the ledger is kept; None for ``runs/<study>-<profile>/journal.log``.
        artifacts: folder for curves and per-image outcomes.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        place: what starts the workers: this machine, or SLURM or Ray with what each task asks for.
        timeout: seconds from now (on a cluster: from a task's start) after which no new trial
            starts.
        screen: explore: an arm may be stopped by epoch for being worse; kept in a study of its own
            and never judged.
        recommended: run the recommended recipe of the study's last report against the baseline, on
            seeds it never saw.
        retry_failed: run cells again that failed by their code.
        dry_run: plan only; write nothing.
        on_event: given ``PlanFacts``, ``ProgressFacts`` and lines of text as they come.

    Raises:
        HarnessError: nothing ran: the study, the recipe, the images or the storage has a fault.
        UnreportedError: trials ran, and writing their report failed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    source = study if isinstance(study, str) else study.name
    loaded = load_study(study) if isinstance(study, str) else study
    check_asked(loaded, profile, overrides=overrides, seeds=seeds)
    # What finished here in the same way answers at once; asked for otherwise, it is looked at again.
    plain = not (storage or artifacts or screen or recommended or retry_failed or dry_run)
    plain = plain and place.here and is_device(device) and not loaded.scripted
    if plain and (kept := _finished(loaded, profile, seeds, overrides, on_event)) is not None:
        return kept

    place.check(device=device, workers=workers, timeout=timeout)
    check_writable(*([] if dry_run else (RUNS, REPORTS)))
    chosen, why = profile or loaded.profile, "as asked"
    if not chosen:
        chosen, why = choose_profile(loaded, device=place.timed_on(device), on_event=on_event)
    resolved = loaded.under(chosen, overrides=overrides, seeds=seeds)
    lines = _left_out(loaded, resolved)
    resolved = _as_asked(resolved, screen=screen, recommended=recommended)
    lines += [] if dry_run else replaced_report(resolved, REPORTS)
    given = (source, loaded.profile or chosen, "--recommended" if recommended else "")
    asked = partial(_asked, *given, seeds=seeds, overrides=overrides)

    timed = [] if resolved.scripted else [timing_words(chosen, "to estimate the whole run")]
    for line in (*lines, *timed):
        on_event(line)
    phase = ArmsPhase.prepare(
        resolved,
        why,
        workers=workers,
        device=device,
        place=place,
        storage=storage,
        artifacts=artifacts,
        screen=screen,
        retry_failed=retry_failed,
        source="" if recommended else source,
        asked=asked(flags="--screen" if screen else ""),
        overrides=overrides or {},
    )
    return _run(
        phase, deadline, asked, confirmable=not recommended, dry_run=dry_run, on_event=on_event
    )


def _asked(
    source: str,
    profile: str,
    own: str,
    *,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    flags: str = "",
) -> str:
    """Return the command of a run, with more flags than its own."""
    return command(
        source, profile, seeds=seeds, overrides=overrides, flags=f"{own} {flags}".strip()
    )


def _finished(
    loaded: Study,
    profile: str | None,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    on_event: OnEvent,
) -> Outcome | None:
    """Return what the study's finished run said, if it is the one asked for; without a profile, the latest."""
    chosen = profile or loaded.profile or latest_profile(loaded, overrides=overrides, seeds=seeds)
    if not chosen:
        return None
    resolved = loaded.under(chosen, overrides=overrides, seeds=seeds)
    kept = recall(resolved, Outcome, PlanFacts)
    if kept is not None:
        done = plural(kept.plan.cells + kept.plan.retune_trials, "trial")
        on_event(f"nothing to run: {resolved.folder} finished on {when_finished(resolved)}, {done}")
        if not (profile or loaded.profile):
            on_event(f"profile {chosen}: the latest that finished; --profile takes another")
    return kept


def _left_out(loaded: Study, resolved: Study) -> list[str]:
    """Return a line for each arm that the file has under this profile and the study that is run has not."""
    if loaded.profile:
        return []
    kept = {arm.name for arm in resolved.arms}
    return [
        f"left out: {arm.name}, whose recipe --base or --set has made the baseline's"
        for arm in loaded.under(resolved.profile).arms
        if arm.name not in kept
    ]


def _as_asked(resolved: Study, *, screen: bool, recommended: bool) -> Study:
    """Return the study that is run: as it is, its recommended recipe, or its screening."""
    if recommended:
        resolved = recommended_study(resolved, REPORTS)
    if screen and resolved.scripted:
        raise UsageError(
            f"study {resolved.name!r} runs a script, which reports its epochs when all are over: "
            "no arm can be stopped by them",
            "leave --screen out",
        )
    if not screen:
        return resolved
    return resolved.model_copy(update={"looks": (), "profile": f"{resolved.profile}-screen"})


def _run(
    phase: ArmsPhase,
    deadline: float | None,
    asked: Callable[..., str],
    *,
    confirmable: bool,
    dry_run: bool,
    on_event: OnEvent,
) -> Outcome:
    """Run a prepared study, or only say what it would do; the outcome has the next step."""
    if phase.ground is not None:
        split = phase.ground.split
        for line in (str(split), *split.notes):
            on_event(f"images: {line}")
    settings = SettingsPhase.prepare(phase) if phase.study.retune and not phase.screen else None
    if dry_run:
        facts = phase.facts(phase.already_done())
        on_event(facts)
        on_event(
            ArmTable(tuple((arm.name, arm.reference, dict(arm.overrides)) for arm in phase.arms))
        )
        return Outcome(
            phase.study.name, phase.study.profile, facts, next_command=phase.asked, dry=True
        )

    if settings is not None:
        outcome = run_retuned(phase, settings, deadline, on_event)
    else:
        outcome = phase.outcome(run_phases([phase], deadline, on_event))
    analysis = read_analysis_plain(outcome.report)
    stopped = outcome.interrupted or outcome.out_of_time
    notes: list[str] = []
    if analysis is not None and not stopped:
        notes = [line for line in (unstable_arms(analysis), nothing_learned(analysis)) if line]
    outcome = replace(
        outcome,
        notes=(*outcome.notes, *notes),
        next_command=after(
            outcome, asked=asked, larger=phase.next_command(), confirmable=confirmable
        ),
    )
    plain = (
        phase.storage is None and phase.artifacts is None and phase.place.here and not phase.screen
    )
    if (
        plain
        and confirmable
        and phase.ground is not None
        and not phase.code
        and not any(phase.codes.values())
    ):
        remember(outcome, phase.study, datasets=[arm.recipe.data.name for arm in phase.arms])
    return outcome
