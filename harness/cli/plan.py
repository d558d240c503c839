"""``harness plan``: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import complete, console
from harness.cli.options import (
    READ,
    Json,
    MaybeStudyName,
    Seeds,
    StudyArgument,
    app,
    examples,
    needed_study,
)


@app.command(
    rich_help_panel=READ,
    epilog=examples("harness plan augmentations", "harness plan dropout --effect 1 --seeds 20"),
)
def plan(
    name: StudyArgument = None,
    *,
    study: MaybeStudyName = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="quick, small, medium, full or the study's own; default: quick.",
            autocompletion=complete.profiles,
        ),
    ] = None,
    effect: Annotated[
        float | None, typer.Option(min=0, help="Effect that should be found; default: the margin.")
    ] = None,
    seeds: Seeds = None,
    json: Json = False,
) -> None:
    """Say what a study can find before it is run: power, seeds needed, trials, time."""
    from harness.commands.plan import plan_study

    facts = plan_study(
        needed_study(name, study, "plan"),
        profile=profile,
        effect=effect,
        seeds=seeds,
        on_event=console.say,
    )
    if json:
        console.data_json(facts.as_json())
        return
    console.table(("what", "value"), facts.rows())
