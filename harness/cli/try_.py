"""``harness try``: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import complete, console
from harness.cli.defaults import settle
from harness.cli.options import (
    RUN,
    Device,
    Json,
    MaybeStudyName,
    Sets,
    StudyArgument,
    app,
    examples,
    needed_study,
    overrides,
)


@app.command(
    "try",
    rich_help_panel=RUN,
    epilog=examples("harness try augmentations", "harness try mine.toml --arm big"),
)
def try_(
    name: StudyArgument = None,
    *,
    study: MaybeStudyName = None,
    arm: Annotated[str | None, typer.Option(help="The arm to run; default: the baseline.")] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="quick, small, medium, full or the study's own; default: quick.",
            autocompletion=complete.profiles,
        ),
    ] = None,
    set_: Sets = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run one trial of a study and record nothing: what it prints, how it is read, what the whole costs."""
    from harness.commands.try_one import try_study

    settings = settle(workers=None, storage=None, artifacts=None, device=device, launcher=None)
    tried = try_study(
        needed_study(name, study, "try"),
        arm=arm,
        profile=profile,
        overrides=overrides(set_),
        workers=settings.workers,
        device=settings.device,
        on_event=console.say,
    )
    if json:
        console.data_json(tried.as_json())
    else:
        console.say()
        console.table(("metric", "as understood", "read from"), tried.rows())
        for line in tried.lines():
            console.say(line)
    if tried.exit_code:
        raise typer.Exit(tried.exit_code)
