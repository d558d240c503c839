"""The application that commands register with, and the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import complete
from harness.cli.defaults import LauncherName

RUN, READ, CLUSTER, SETUP = PANELS = ("Run", "Read", "Cluster", "Set up")

app = typer.Typer(
    name="harness",
    help="Which parts of an image-classification training recipe earn their place, by how much, and at what cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
StudyName = Annotated[
    str,
    typer.Option(
        "--study", "-s", help="A study's name, or a study file.", autocompletion=complete.studies
    ),
]
MaybeStudyName = Annotated[
    str | None,
    typer.Option(
        "--study", "-s", help="A study's name, or a study file.", autocompletion=complete.studies
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="quick, small, medium, full or one of the study's own; default: what fits here.",
        autocompletion=complete.profiles,
    ),
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Number of seeds, in place of the profile's.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set a recipe field; repeatable.",
        autocompletion=complete.assignments,
    ),
]
Base = Annotated[
    Path | None,
    typer.Option("--base", help="A recipe file, as tune writes it: fields set before --set."),
]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Processes, or tasks of a cluster: a number; default: auto, as many as fit this machine."
    ),
]
LauncherOption = Annotated[
    LauncherName | None, typer.Option("--launcher", help="What starts the workers; default: local.")
]
Storage = Annotated[
    str | None, typer.Option(help="Where the ledger is kept; default: a journal under runs/.")
]
Artifacts = Annotated[
    str | None,
    typer.Option(help="Folder for curves and per-image outcomes; default: beside the ledger."),
]
Device = Annotated[
    str | None, typer.Option(help="auto (the default), cpu, cuda, cuda:N, mps or xpu.")
]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds after which no new trial starts; run again to go on."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its cost; touch nothing.")
]
StudyFolder = Annotated[
    str, typer.Option("--study", "-s", help="A study's folder name, as augmentations-quick.")
]


def overrides(assignments: list[str] | None, base: Path | None = None) -> dict[str, Any]:
    """Return the recipe fields that ``--base`` and ``--set`` set; the latter wins."""
    from harness.study.plugin_fields import carried
    from harness.study.recipe import parse_assignment
    from harness.study.recipe_file import read_recipe

    fields = read_recipe(base) if base is not None else {}
    assigned = dict(parse_assignment(text) for text in assignments or [])
    return {**carried(fields, assigned), **assigned}
