"""``harness new-study``: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import console
from harness.cli.options import SETUP, Json, app, examples


@app.command(
    "new-study",
    rich_help_panel=SETUP,
    epilog=examples("harness new-study erasing", "harness show erasing"),
)
def new_study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Letters, digits, '.', '_' and '-'; the file is studies/NAME.toml."
        ),
    ],
    *,
    json: Json = False,
) -> None:
    """Write a commented study file that validates, to be changed into your own."""
    from harness.study.template import new_study as write

    path = write(name)
    if json:
        console.data_json({"study": name, "file": path})
        return
    console.say(f"`harness show {name}` lists its arms; `harness ablate --study {name}` runs it.")
    console.data(str(path))
