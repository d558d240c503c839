"""The command line: parse, call one function, print. The only place that exits.

Exit codes: 0 done; 1 ran with failures, or without its report (or ``--check`` says worse); 2 nothing ran; 130 interrupted or
out of time, resumable.
Everything heavy is imported inside the command that needs it, so that ``harness --help`` answers at once.

app      the application and shared options
complete what the shell completes them with
place    options filled up with defaults
screen   what a running verb looks like
run      ablate, tune, bench
read     show, plan, report, compare
setup    data
cluster  status, worker
bring    analyze, doctor, new-study
"""

from __future__ import annotations

import sys

import typer

from harness import console
from harness.cli import bring, cluster, read, run, setup
from harness.cli.app import PANELS, app
from harness.errors import HarnessError, UnreportedError

INTERRUPTED = 130

__all__ = ["app", "bring", "cluster", "main", "read", "run", "setup"]

# Commands register when their module is imported, in alphabetical order; the help shows what to run first.
app.registered_commands.sort(key=lambda command: PANELS.index(str(command.rich_help_panel)))


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Not standalone: the parser's own errors are boxed and have no hint.
        sys.exit(app(prog_name="harness", standalone_mode=False))
    except HarnessError as error:
        console.error(error)
        sys.exit(1 if isinstance(error, UnreportedError) else 2)
    except typer.TyperException as error:
        _say_usage(error)
        sys.exit(2)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        console.say("interrupted; the same command goes on from here")
        sys.exit(INTERRUPTED)


def _say_usage(error: typer.TyperException) -> None:
    """Say what is wrong with the arguments in the words of every other error; a bare command has printed its help instead."""
    form, context = getattr(error, "format_message", None), getattr(error, "ctx", None)
    message = (form() if form else str(error)).rstrip(".")
    if message:
        path = context.command_path if context is not None else "harness"
        console.error(message[0].lower() + message[1:], f"`{path} --help` says what it takes")
