"""``harness doctor``: parse, call, print."""

from __future__ import annotations

import typer

from harness.cli import console
from harness.cli.options import SETUP, Json, app, examples


@app.command(
    rich_help_panel=SETUP, epilog=examples("harness doctor", "harness doctor --json > machine.json")
)
def doctor(*, json: Json = False) -> None:
    """Look at Python, torch, GPUs, disk, images and storage, and say what to do about each."""
    from harness.commands.doctor import examine

    findings = examine()
    if json:
        console.data_json(
            [{name: getattr(one, name) for name in one.__slots__} for one in findings]
        )
    else:
        marks = {"ok": "ok", "warn": "warning", "fail": "FAIL"}
        rows = [
            (marks[one.level], one.name, one.what + (f"\nhint: {one.hint}" if one.hint else ""))
            for one in findings
        ]
        console.table(("", "what", "found"), rows)
    if any(one.level == "fail" for one in findings):
        raise typer.Exit(1)
