"""``harness report``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import complete, console
from harness.cli.defaults import storage_of
from harness.cli.options import READ, Json, Storage, app, examples
from harness.cli.page import show_page
from harness.errors import UsageError


@app.command(
    rich_help_panel=READ,
    epilog=examples("harness report", "harness report augmentations --open"),
)
def report(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="Studies with trials under runs/; default: all.",
            autocompletion=complete.runs,
        ),
    ] = None,
    *,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Rebuild a report from its own folder.")
    ] = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Rebuild every report under reports/, and reports/README.md."),
    ] = False,
    storage: Storage = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
) -> None:
    """Write the comparison documents from what has been run."""
    from harness.commands.report import report as write
    from harness.commands.report import report_all

    if bool(studies) + (from_ is not None) + all_ > 1:
        raise UsageError(
            "give either studies, --from or --all",
            "`harness report --from FOLDER` rebuilds one folder",
        )
    failures: list[str] = []
    if all_:
        written, failures = report_all(on_event=console.say)
    else:
        written = write(
            studies or (), from_folder=from_, storage=storage_of(storage), on_event=console.say
        )
    if json:
        console.data_json(
            [{"report": w.index, "answer": w.answer, "files": w.files} for w in written]
        )
    else:
        for one in written:
            console.say(f"{one.folder.name}: {one.answer}")
            console.data(str(one.index))
        if from_ is None:
            console.say("all reports on one page:")
            console.data("reports/index.html")
    for failure in failures:
        console.warn(f"not made again: {failure}")
    if open_:
        show_page(written[0].index if len(written) == 1 else Path("reports/index.html"))
    if failures:
        raise typer.Exit(1)
