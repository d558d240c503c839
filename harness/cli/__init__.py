"""The command line: parse, call one function of ``commands``, print. The only place that prints and exits.

No work is done here, and everything heavy is imported inside the command that needs it.
Start with ``options``; each command is in the file of its name.

Exit codes: 0 done; 1 ran with failures, or without its report (or ``--check`` says worse); 2 nothing ran; 130 interrupted or
out of time, resumable.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Annotated

import typer

from harness.cli import (
    ablate,
    analyze,
    bench,
    compare,
    complete,
    console,
    data,
    doctor,
    new_study,
    page,
    plan,
    report,
    show,
    status,
    try_,
    tune,
    worker,
)
from harness.cli.options import CommandInterrupted, app, examples
from harness.errors import HarnessError, UnreportedError

INTERRUPTED = 130
RUNS = frozenset({"ablate", "tune", "bench", "worker"})  # what they print is also kept in files
RESUMED = frozenset({"ablate", "tune", "worker"})  # what they had done is not done again

__all__ = [
    "ablate",
    "analyze",
    "app",
    "bench",
    "compare",
    "data",
    "doctor",
    "main",
    "new_study",
    "page",
    "plan",
    "report",
    "show",
    "status",
    "try_",
    "tune",
    "worker",
]

# A command registers when its module is imported, in alphabetical order; the help shows them in
# this one.
ORDER = (
    "try",
    "ablate",
    "tune",
    "bench",
    "status",
    "open",
    "analyze",
    "show",
    "plan",
    "report",
    "compare",
    "worker",
    "doctor",
    "new-study",
)
app.registered_commands.sort(
    key=lambda command: ORDER.index(command.name or getattr(command.callback, "__name__", ""))
)


def _say_version(asked: bool) -> None:  # noqa: FBT001 - the parser's signature
    if asked:
        from importlib.metadata import version

        console.data(f"harness {version('harness')}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "harness show",
        "harness ablate augmentations",
        "harness open augmentations",
    )
)
def harness(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and leave.",
            is_eager=True,
            callback=_say_version,
        ),
    ] = False,
) -> None:
    """Which parts of an image-classification training recipe earn their place, by how much, and at what cost."""
    del version  # its callback has left


def main() -> None:
    """Run the command line and exit with its code."""
    console.open_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script starts what it ends with &
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if os.environ.get("_HARNESS_COMPLETE") == "complete_bash":
            complete.answer_bash(lambda: app(prog_name="harness"))
        # Not standalone: the parser's own errors are boxed and have no hint.
        code = app(prog_name="harness", standalone_mode=False)
        sys.exit(_code_of_lost() or code)
    except HarnessError as error:
        code = 1 if isinstance(error, UnreportedError) else 2
        console.error(error)
        _say_as_data(error.message, error.hint, code)
        sys.exit(code)
    except OSError as error:  # help is printed by the parser, which does not know of lost streams
        if not console.lost():
            raise
        console.error(f"stdout was lost: {error.strerror or error}", "send it where there is room")
        sys.exit(1)
    except typer.TyperException as error:
        _say_usage(error)
        sys.exit(2)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, CommandInterrupted) as error:
        hint = "the same command goes on from here" if str(error) in RESUMED else ""
        console.say("; ".join(part for part in ("interrupted", hint) if part))
        _say_as_data("interrupted", hint, INTERRUPTED)
        sys.exit(INTERRUPTED)


def _code_of_lost() -> int:
    """Say that stdout was lost, if it was, and return the exit code for that: 0 where what was run is kept elsewhere."""
    words = sys.argv[1:]
    # the parser, which prints the help, says nothing about a closed stream
    why = console.lost() or (
        "it is closed" if sys.stdout is None and {"-h", "--help"} & set(words) else ""
    )
    if not why:
        return 0
    if (
        next((word for word in words if not word.startswith("-")), "") in RUNS
        and "--help" not in words
    ):
        console.warn(f"stdout was lost: {why}; results and report are not")
        return 0
    console.error(f"stdout was lost: {why}", "send it where there is room, or to another file")
    return 1


# the parser's words for a value that it cannot take, and ours
_PLAIN = (
    (r"Input should be a valid integer, .*", "it takes a whole number"),
    (r"Input should be a valid number, .*", "it takes a number"),
    (r"Input should be greater than or equal to (\S+)", r"it takes \1 or more"),
    (r"Input should be greater than (\S+)", r"it takes more than \1"),
    (r"Input should be less than or equal to (\S+)", r"it takes \1 or less"),
    (r"Value error, ", ""),
    (
        r"^Got unexpected extra argument(?:\(s\)|s)? \((.*)\)$",
        r"there is no place for \1: an option is missing before it, or it is one name too many",
    ),
)


def _say_usage(error: typer.TyperException) -> None:
    """Say what is wrong with the arguments in the words of every other error; a bare command has printed its help instead."""
    form, context = getattr(error, "format_message", None), getattr(error, "ctx", None)
    message = (form() if form else str(error)).rstrip(".")
    for theirs, plain in _PLAIN:
        message = re.sub(theirs, plain, message)
    if message:
        path = context.command_path if context is not None else "harness"
        message, hint = message[0].lower() + message[1:], f"`{path} --help` says what it takes"
        console.error(message, hint)
        _say_as_data(message, hint, 2)


def _say_as_data(message: str, hint: str, code: int) -> None:
    """Print an error as an object on stdout too, where ``--json`` asks for one."""
    if "--json" in sys.argv[1:]:
        console.data_json({"error": message, "hint": hint, "exit_code": code})
