"""``harness tune``: parse, call, print."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from harness.cli.defaults import settle
from harness.cli.options import (
    RUN,
    Artifacts,
    Base,
    Device,
    DryRun,
    Json,
    LauncherOption,
    MaybeStudyName,
    Profile,
    Sets,
    Storage,
    StudyArgument,
    Timeout,
    Workers,
    app,
    examples,
    overrides,
    study_of,
)
from harness.cli.screen import Screen, finish


class Sampler(StrEnum):
    """How the search chooses its next recipe."""

    tpe = "tpe"
    gp = "gp"
    random = "random"


class Pruner(StrEnum):
    """When the search stops a trial early."""

    median = "median"
    none = "none"


@app.command(
    rich_help_panel=RUN,
    epilog=examples("harness tune --trials 50 --profile quick", "harness tune --dry-run"),
)
def tune(
    name: StudyArgument = None,
    *,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Budget of the search; default: the study's, or 50.")
    ] = None,
    study: MaybeStudyName = None,
    profile: Profile = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fresh seeds of the confirmation.")
    ] = None,
    set_: Sets = None,
    base: Base = None,
    sampler: Annotated[Sampler | None, typer.Option(help="In place of the study's.")] = None,
    pruner: Annotated[Pruner | None, typer.Option(help="In place of the study's.")] = None,
    workers: Workers = None,
    launcher: LauncherOption = None,
    storage: Storage = None,
    artifacts: Artifacts = None,
    device: Device = None,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Search for a better recipe, run the best again on fresh seeds, and report both.

    Without a study, the built-in one of the name tune is searched.
    """
    from harness.commands.tune import tune as run

    with Screen() as shown:
        searched = study_of(name, study) or "tune"
        settings = settle(
            workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher
        )
        outcome = run(
            searched,
            trials=trials,
            profile=profile,
            seeds=seeds,
            overrides=overrides(set_, base),
            sampler=sampler.value if sampler else None,
            pruner=pruner.value if pruner else None,
            **settings.as_arguments(),
            timeout=timeout,
            dry_run=dry_run,
            on_event=shown,
        )
    finish(outcome, json=json)
