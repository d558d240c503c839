"""Commands that train: ablate, tune."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from harness import console
from harness.cli.app import (
    RUN,
    Artifacts,
    Base,
    Device,
    DryRun,
    Json,
    LauncherOption,
    MaybeStudyName,
    Profile,
    Seeds,
    Sets,
    Storage,
    Timeout,
    Workers,
    app,
    overrides,
)
from harness.cli.place import settle
from harness.cli.screen import Screen, finish, finish_all
from harness.config import find_defaults
from harness.errors import UsageError


@app.command(rich_help_panel=RUN)
def ablate(
    *,
    study: MaybeStudyName = None,
    all_: Annotated[bool, typer.Option("--all", help="Every built-in study, one after the other; the cost first.")] = False,
    profile: Profile = None,
    seeds: Seeds = None,
    set_: Sets = None,
    base: Base = None,
    workers: Workers = None,
    launcher: LauncherOption = None,
    storage: Storage = None,
    artifacts: Artifacts = None,
    device: Device = None,
    timeout: Timeout = None,
    screen: Annotated[bool, typer.Option("--screen", help="Explore: stop worse arms by epoch; nothing is judged.")] = False,
    recommended: Annotated[
        bool, typer.Option("--recommended", help="Run what the last report recommends, on fresh seeds.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed by their code.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train every arm of a study over its seeds, and write the comparison report."""
    from harness.commands.ablate import ablate as run

    if all_:
        given = [name for name, value in (("--study", study), ("--screen", screen), ("--recommended", recommended)) if value]
        if given:
            raise UsageError(f"--all and {given[0]} exclude each other", "`harness ablate --study NAME` runs one study")
        from harness.commands.all_studies import ablate_all

        with Screen() as shown:
            settings = settle(workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher)
            if not settings.place.here:
                raise UsageError("--all runs on this machine only", "`--launcher local`, or a study at a time with --study")
            whole = ablate_all(
                profile=profile,
                seeds=seeds,
                overrides=overrides(set_, base),
                workers=settings.workers,
                storage=settings.storage,
                artifacts=settings.artifacts,
                device=settings.device,
                timeout=timeout,
                retry_failed=retry_failed,
                dry_run=dry_run,
                on_event=shown,
            )
        finish_all(whole, json=json)
        return
    if study is None:
        raise UsageError("there is no study to run: --study is missing", "--study NAME for one, --all for every built-in one")
    with Screen() as shown:
        settings = settle(workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher)
        outcome = run(
            study,
            profile=profile,
            seeds=seeds,
            overrides=overrides(set_, base),
            **settings.as_arguments(),
            timeout=timeout,
            screen=screen,
            recommended=recommended,
            retry_failed=retry_failed,
            dry_run=dry_run,
            on_event=shown,
        )
    finish(outcome, json=json)


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
    trials: Annotated[int | None, typer.Option(min=1, help="Budget of the search; default: the study's, or 50.")] = None,
    study: Annotated[str, typer.Option("--study", "-s", help="A study with a space, by name or file.")] = "tune",
    profile: Profile = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Fresh seeds of the confirmation.")] = None,
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
            raise UsageError(told, "`harness ablate` runs it; `harness show tune` shows a study that can be searched")
        settings = settle(workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher)
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


@app.command(rich_help_panel=RUN)
def bench(
    *,
    device: Device = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures under reports/bench.")] = False,
    json: Json = False,
) -> None:
    """Time the engine against the usual pipeline and against what this machine could do."""
    from harness.bench import HEADS
    from harness.bench import bench as measure

    found = measure(device=device or find_defaults().device or "auto", save=save, on_event=console.say)
    if json:
        console.data_json(found.as_json())
        return
    console.table(HEADS, found.rows(), right=HEADS[1:])
    for warning in found.warnings:
        console.warn(warning)
