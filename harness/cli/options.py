"""The application that commands register with, and the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.cli import complete
from harness.cli.defaults import LauncherName
from harness.errors import UsageError

RUN, READ, CLUSTER, SETUP = PANELS = ("Run", "Read", "Cluster", "Set up")
WHERE = "Where it runs"  # panel of the options of a command that say so


class CommandInterrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl-C in a command, by its name: the parser would leave without a word."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CommandInterrupted(ctx.invoked_subcommand or "") from None


app = typer.Typer(
    name="harness",
    cls=_Commands,
    help="Which parts of an image-classification training recipe earn their place, by how much, and at what cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
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
        help="Processes, or tasks of a cluster: a number; default: auto, as many as fit this machine.",
        rich_help_panel=WHERE,
    ),
]
LauncherOption = Annotated[
    LauncherName | None,
    typer.Option(
        "--launcher", help="What starts the workers; default: local.", rich_help_panel=WHERE
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the ledger is kept; default: a journal under runs/.", rich_help_panel=WHERE
    ),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        help="Folder for curves and per-image outcomes; default: next to the ledger.",
        rich_help_panel=WHERE,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="auto (the default), cpu, cuda, cuda:N, mps or xpu.", rich_help_panel=WHERE),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds after which no new trial starts; run again to go on.",
        rich_help_panel=WHERE,
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="A study's name, or a study file; the same as --study.",
        autocompletion=complete.studies,
        show_default=False,
    ),
]
All = Annotated[
    bool, typer.Option("--all", help="Every built-in study, one after the other; the cost first.")
]
Screening = Annotated[
    bool, typer.Option("--screen", help="Explore: stop worse arms by epoch; nothing is judged.")
]
Recommended = Annotated[
    bool,
    typer.Option("--recommended", help="Run what the last report recommends, on fresh seeds."),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Run cells again that failed by their code.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its cost; touch nothing.")
]
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="A study that was started, as augmentations or augmentations-quick.",
        autocompletion=complete.runs,
        show_default=False,
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--study", "-s", help="The same as STUDY.", autocompletion=complete.runs),
]


def examples(*commands: str) -> str:
    """Return the lines at the end of a command's help: what somebody would type."""
    return "\n\n".join(f"[dim]$[/dim] {command}" for command in commands)


def study_of(name: str | None, option: str | None) -> str | None:
    """Return the study that is named as an argument or by ``--study``; None where neither is.

    Raises:
        UsageError: both are given, and differ.
    """
    if name and option and name != option:
        raise UsageError(
            f"two studies are named: {name!r} and --study {option!r}",
            "leave one of them out",
        )
    return name or option


def needed_study(name: str | None, option: str | None, verb: str) -> str:
    """Return the study that is named.

    Raises:
        UsageError: none is, or two are.
    """
    study = study_of(name, option)
    if study is None:
        listed = "status` lists what was started" if verb == "worker" else "show` lists the studies"
        raise UsageError(
            f"`harness {verb}` needs the name of a study",
            f"for example `harness {verb} augmentations`; `harness {listed}",
        )
    return study


def overrides(assignments: list[str] | None, base: Path | None = None) -> dict[str, Any]:
    """Return the recipe fields that ``--base`` and ``--set`` set; the latter wins."""
    from harness.study.plugin_fields import carried
    from harness.study.recipe import parse_assignment
    from harness.study.recipe_file import read_recipe

    fields = read_recipe(base) if base is not None else {}
    assigned = dict(parse_assignment(text) for text in assignments or [])
    return {**carried(fields, assigned), **assigned}
