"""The command line: parse, call one function, print. The only place that exits.

Exit codes: 0 done; 1 ran with failures (or ``--check`` says worse); 2 nothing ran; 130 interrupted or out of time, resumable.
Everything heavy is imported inside the command that needs it, so that ``harness --help`` answers at once.

app      the application and shared options
complete what the shell completes them with
screen   what a running verb looks like
run      ablate, tune
read     show, plan, report, compare
setup    data
bring    analyze, doctor, new-study
"""

from __future__ import annotations

import sys

from harness import console
from harness.cli import bring, read, run, setup
from harness.cli.app import app
from harness.errors import HarnessError

INTERRUPTED = 130

__all__ = ["app", "bring", "main", "read", "run", "setup"]


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except HarnessError as error:
        console.error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        console.say("interrupted; the same command goes on from here")
        sys.exit(INTERRUPTED)
