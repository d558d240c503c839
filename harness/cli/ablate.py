"""``harness ablate``: parse, call, print."""

from __future__ import annotations

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
    Seeds,
    Sets,
    Storage,
    Timeout,
    Workers,
    app,
    overrides,
)
from harness.cli.screen import Screen, finish, finish_all
from harness.errors import UsageError


@app.command(rich_help_panel=RUN)
def ablate(
    *,
    study: MaybeStudyName = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Every built-in study, one after the other; the cost first."),
    ] = False,
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
    screen: Annotated[
        bool, typer.Option("--screen", help="Explore: stop worse arms by epoch; nothing is judged.")
    ] = False,
    recommended: Annotated[
        bool,
        typer.Option("--recommended", help="Run what the last report recommends, on fresh seeds."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells again that failed by their code.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train every arm of a study over its seeds, and write the comparison report."""
    from harness.commands.ablate import ablate as run

    if all_:
        given = [
            name
            for name, value in (
                ("--study", study),
                ("--screen", screen),
                ("--recommended", recommended),
            )
            if value
        ]
        if given:
            raise UsageError(
                f"--all and {given[0]} exclude each other",
                "`harness ablate --study NAME` runs one study",
            )
        from harness.commands.all_studies import ablate_all

        with Screen() as shown:
            settings = settle(
                workers=workers,
                storage=storage,
                artifacts=artifacts,
                device=device,
                launcher=launcher,
            )
            if not settings.place.here:
                raise UsageError(
                    "--all runs on this machine only",
                    "`--launcher local`, or a study at a time with --study",
                )
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
        raise UsageError(
            "there is no study to run: --study is missing",
            "--study NAME for one, --all for every built-in one",
        )
    with Screen() as shown:
        settings = settle(
            workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher
        )
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
