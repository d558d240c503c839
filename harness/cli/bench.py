"""``harness bench``: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import console
from harness.cli.options import (
    RUN,
    Device,
    Json,
    app,
)
from harness.config import find_defaults


@app.command(rich_help_panel=RUN)
def bench(
    *,
    device: Device = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the figures under reports/bench.")
    ] = False,
    json: Json = False,
) -> None:
    """Time the engine against the usual pipeline and against what this machine could do."""
    from harness.bench import HEADS
    from harness.bench import bench as measure

    found = measure(
        device=device or find_defaults().device or "auto", save=save, on_event=console.say
    )
    if json:
        console.data_json(found.as_json())
        return
    console.table(HEADS, found.rows(), right=HEADS[1:])
    for warning in found.warnings:
        console.warn(warning)
