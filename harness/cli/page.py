"""``harness open``: a report's page in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, app, examples


@app.command(
    "open",
    rich_help_panel=READ,
    epilog=examples("harness open augmentations", "harness open"),
)
def open_page(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="REPORT",
            help="A report or its study; default: the page over all reports.",
            autocompletion=complete.reports,
            show_default=False,
        ),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Open a report's page in the browser, and write it again first where it is older than its trials."""
    from harness.commands.report import fresh_page

    page = fresh_page(name or "", on_event=console.say)
    opened = show_page(page)
    if json:
        console.data_json({"page": page, "opened": opened})
    else:
        console.data(str(page))


def show_page(page: Path) -> bool:
    """Open a page in the browser; say in a line where there is none, and return whether there was one."""
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        console.say(f"there is no browser here: open {page} on a machine that has one")
    return opened
