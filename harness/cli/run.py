"""Commands that train: ablate, tune."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.app import (
    RUN,
    Artifacts,
    Device,
    DryRun,
    Json,
    Profile,
    Seeds,
    Sets,
    Storage,
    StudyName,
    Timeout,
    Workers,
    app,
    overrides,
    worker_count,
)
from harness.cli.screen import Screen, finish


@app.command(rich_help_panel=RUN)
def ablate(
    *,
    study: StudyName,
    profile: Profile = None,
    seeds: Seeds = None,
    set_: Sets = None,
    workers: Workers = "auto",
    storage: Storage = None,
    artifacts: Artifacts = None,
    device: Device = "auto",
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
    from harness.ablation import ablate as run

    with Screen() as shown:
        outcome = run(
            study,
            profile=profile,
            seeds=seeds,
            overrides=overrides(set_),
            workers=worker_count(workers),
            storage=storage,
            artifacts=artifacts,
            device=device,
            timeout=timeout,
            screen=screen,
            recommended=recommended,
            retry_failed=retry_failed,
            dry_run=dry_run,
            on_event=shown,
        )
    finish(outcome, json=json)
