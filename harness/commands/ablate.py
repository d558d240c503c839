"""``ablate``: from a study's name to a finished report, through plan, ledger and workers.

facts    what a run says of itself
choose   profile, recommended recipe, next size up
launching where the workers are
setup    what every run needs: images, workers, storage
job      one study under one profile, from plan to report
retune   a study whose arms are retuned: settings, choice, the same study again
watch    following the workers
forecast power and cost before anything runs
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from harness.commands.choose_profile import (
    all_trials,
    check_device,
    choose_profile,
    command,
    next_size,
    recommended_study,
)
from harness.commands.facts import OnEvent, Outcome, PlanFacts, ProgressFacts
from harness.commands.follow import Follower, counted
from harness.commands.place import RUNS, Place
from harness.commands.plan import Forecast, plan_study
from harness.commands.retune import RetunedJob
from harness.commands.run import Job
from harness.commands.setup import REPORTS, Setup
from harness.errors import UsageError
from harness.study.study import Study, load_study

__all__ = [
    "REPORTS",
    "RUNS",
    "Follower",
    "Forecast",
    "Job",
    "OnEvent",
    "Outcome",
    "Place",
    "PlanFacts",
    "ProgressFacts",
    "RetunedJob",
    "Setup",
    "ablate",
    "all_trials",
    "check_device",
    "choose_profile",
    "command",
    "counted",
    "next_size",
    "plan_study",
    "recommended_study",
]


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
    """Run every cell of a study that has not been run yet, and write its report.

    Of a study that retunes, the settings of its arms and the retuned arms are run after it, and the
    report has both verdicts.

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
        dry_run: work out the plan and touch nothing.
        on_event: given ``PlanFacts``, ``ProgressFacts`` and lines of text as they come.

    Raises:
        HarnessError: nothing ran: the study, the recipe, the images or the storage cannot be used.
        UnreportedError: trials ran, and their report cannot be written.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    place.check(device=device, workers=workers, timeout=timeout)
    source = study if isinstance(study, str) else study.name
    loaded = load_study(study) if isinstance(study, str) else study
    chosen, why = (
        (profile or loaded.profile, "as asked")
        if profile or loaded.profile
        else choose_profile(loaded, device=place.timed_on(device), on_event=on_event)
    )
    resolved = loaded.under(chosen, overrides=overrides, seeds=seeds)
    if recommended:
        resolved = recommended_study(resolved, REPORTS)
    if screen and resolved.scripted:
        told = f"study {resolved.name!r} runs a script, which tells of its epochs when all are over"
        raise UsageError(f"{told}: no arm can be stopped by them", "leave --screen out")
    if screen:
        resolved = resolved.model_copy(
            update={"looks": (), "profile": f"{resolved.profile}-screen"}
        )
    flags = " ".join(
        flag for flag, given in (("--screen", screen), ("--recommended", recommended)) if given
    )
    if not resolved.scripted:
        on_event("timing a few steps")
    job = Job.prepare(
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
        asked=command(
            source, loaded.profile or chosen, seeds=seeds, overrides=overrides, flags=flags
        ),
    )
    if job.ground is not None:
        split = job.ground.split
        for line in (str(split), *split.notes):
            on_event(f"images: {line}")
    retuned = RetunedJob.prepare(job) if resolved.retune and not screen else None
    if dry_run:
        facts = job.facts(job.already_done())
        on_event(facts)
        following = job.next_command()
        return Outcome(resolved.name, resolved.profile, facts, next_command=following, dry=True)
    return (retuned or job).run(deadline, on_event)
