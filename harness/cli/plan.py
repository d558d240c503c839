"""``harness plan``: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, Seeds, StudyName, app


@app.command(rich_help_panel=READ)
def plan(
    *,
    study: StudyName,
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

    facts = plan_study(study, profile=profile, effect=effect, seeds=seeds, on_event=console.say)
    if json:
        console.data_json(facts.as_json())
        return
    console.table(("what", "value"), facts.rows())
