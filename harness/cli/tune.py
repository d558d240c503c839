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
    Profile,
    Sets,
    Storage,
    Timeout,
    Workers,
    app,
    overrides,
)
from harness.cli.screen import Screen, finish
from harness.errors import UsageError


class Sampler(StrEnum):
    """How the search chooses its next recipe."""

    tpe = "tpe"
    gp = "gp"
    random = "random"


class Pruner(StrEnum):
    """When the search stops a trial early."""

    median = "median"
    none = "none"


@app.command(rich_help_panel=RUN)
def tune(
    *,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Budget of the search; default: the study's, or 50.")
    ] = None,
    study: Annotated[
        str, typer.Option("--study", "-s", help="A study with a space, by name or file.")
    ] = "tune",
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
    """Search for a better recipe, run the best again on fresh seeds, and report both."""
    from harness.commands.tune import tune as run
    from harness.study.study import load_study

    with Screen() as shown:
        if load_study(study).scripted:
            told = f"study {load_study(study).name!r} runs a training script, and a search needs our engine"
            raise UsageError(
                told,
                "`harness ablate` runs it; `harness show tune` shows a study that can be searched",
            )
        settings = settle(
            workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher
        )
        outcome = run(
            study,
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
