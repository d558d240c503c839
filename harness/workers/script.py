"""Running a training script of the user's, whatever it is written in, as a runner of cells.

A command is run without a shell, in the working folder, with ``HARNESS_OUT`` (a fresh, empty folder
for every attempt) and ``HARNESS_SEED`` in its environment. It writes ``metrics.json`` there
(``results``). What it prints goes to a log beside that folder. It lives in a session of its own
under a guard, which ends all of it when the worker is gone, however that came about.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from harness.errors import TrialError, UsageError
from harness.plugins import code_fingerprint, load_plugin
from harness.study.script_settings import expand, placeholders
from harness.study.study import Study
from harness.study.trial import Cell, Outcomes, Trial
from harness.workers.script_results import Results, read_results

FOLDER = "scripts"  # beside the journal: a folder and a log of every attempt
_TAIL_BYTES = 4000
_MERCY_SECONDS = 3.0  # between asking a script to end and ending it

# Waits for its standard input to be closed, which the worker does by dying, and then ends its whole
# process group.
_GUARD = """
import os, signal, subprocess, sys, threading
def watch():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, lambda *_: None)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
if code < 0:  # end as it ended
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class TrainFunction(Protocol):
    """What ``runner = "file.py:function"`` names.

    It trains once and returns its metrics, or writes them as ``metrics.json`` into ``out`` and returns None; the names are the
    same. What it raises is a failed trial. It runs inside of a worker, one call after the other.
    """

    def __call__(
        self, *, seed: int, settings: Mapping[str, Any], out: Path
    ) -> Mapping[str, float] | None:
        """Train once.

        Args:
            seed: of the run.
            settings: as the study's arm has them.
            out: an empty folder of this attempt.
        """
        ...


class ScriptError(TrialError):
    """A script that gave no result, and whose fault that was."""

    def __init__(self, message: str, cause: Literal["code", "infrastructure"] = "code") -> None:
        super().__init__(message)
        self.cause: Literal["code", "infrastructure"] = cause


@dataclass(frozen=True, slots=True)
class ScriptRunner:
    """A ``Runner`` of a study's command or function.

    Attributes:
        study: with ``command`` or ``runner``.
        folder: of the study's ledger, where attempts have their folders and logs.
    """

    study: Study
    folder: Path

    def __call__(
        self, cell: Cell, /, *, device: str, threads: int, on_epoch: Callable[..., bool]
    ) -> tuple[Trial, Outcomes | None]:
        """Run one cell; nothing is told of epochs before the script has ended."""
        del threads, on_epoch  # threads are in the environment already
        out = self._fresh(cell)
        started = time.perf_counter()
        try:
            found = (
                self._function(cell, out) if self.study.runner else self._command(cell, out, device)
            )
        except ScriptError as error:
            told = {"state": "failed", "cause": error.cause, "error": error.message}
            return Trial.model_validate(
                {"cell": cell.key, "seed": cell.seed, "recipe": cell.recipe, **told}
            ), None
        except BaseException as error:
            # handed back: this attempt never was
            if not isinstance(error, (Exception, SystemExit)):
                shutil.rmtree(out, ignore_errors=True)
                _log(out).unlink(missing_ok=True)
            raise
        seconds = time.perf_counter() - started
        trial = Trial(
            cell=cell.key,
            seed=cell.seed,
            recipe=cell.recipe,
            state="diverged" if found.diverged else "complete",
            metrics={} if found.diverged else found.metrics,
            epochs=found.epochs,
            train_seconds=seconds,
            error=found.diverged,
            curve=found.curve,
        )
        return trial, None

    def _fresh(self, cell: Cell) -> Path:
        """Make an empty folder of this attempt."""
        base = self.folder.resolve() / FOLDER
        base.mkdir(parents=True, exist_ok=True)
        attempt = 1
        while True:
            out = base / f"{cell.key}-{attempt}"
            try:
                out.mkdir()
            except FileExistsError:
                attempt += 1
            else:
                return out

    def _function(self, cell: Cell, out: Path) -> Results:
        train = cast("TrainFunction", load_plugin(self.study.runner, what="runner"))
        returned = train(seed=cell.seed, settings=cell.recipe.flat(), out=out)
        try:
            return read_results(out, self.study, returned)
        except TrialError as error:
            raise ScriptError(f"{self.study.runner}: {error.message}") from None

    def _command(self, cell: Cell, out: Path, device: str) -> Results:
        words = command_line(self.study, {**cell.recipe.flat(), "seed": cell.seed, "out": out})
        environment = {**os.environ, "HARNESS_OUT": str(out), "HARNESS_SEED": str(cell.seed)}
        if device == "cpu":
            # a script that takes what GPU it sees is kept to the plan
            environment["CUDA_VISIBLE_DEVICES"] = ""
        try:
            with _log(out).open("wb") as log:
                code = _run(words, environment, log.fileno(), self.study.timeout_seconds)
        except subprocess.TimeoutExpired:
            raise _failed(
                f"took longer than timeout_seconds = {self.study.timeout_seconds:g}", out
            ) from None
        if code < 0:
            cause: Literal["code", "infrastructure"] = (
                "infrastructure" if -code in _FROM_OUTSIDE else "code"
            )
            raise _failed(f"was killed by {signal.Signals(-code).name}", out, cause)
        if code:
            raise _failed(
                f"ended with exit code {code}",
                out,
                "infrastructure" if _memory_ran_out(out) else "code",
            )
        try:
            return read_results(out, self.study)
        except TrialError as error:
            raise _failed(f"ended well, but {error.message}", out) from None


# a scheduler, a person, the system when memory runs out
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


def _run(
    words: Sequence[str], environment: Mapping[str, str], log: int, timeout_seconds: float
) -> int:
    """Run a command to its end under the guard and return its exit code; whatever cuts this short ends the command too."""
    process: subprocess.Popen[bytes] | None = None
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user's study names, without a shell
            [sys.executable, "-I", "-S", "-c", _GUARD, *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        return process.wait(timeout_seconds or None)
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process group: first ask, then kill."""
    with suppress(OSError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_MERCY_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)  # what the script started and left behind
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _log(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def _failed(what: str, out: Path, cause: Literal["code", "infrastructure"] = "code") -> ScriptError:
    """The error of an attempt, with the last words of its output and where the rest is."""
    lines = [line.strip() for line in _tail(out).splitlines() if line.strip()]
    last = f": {lines[-1][:300]}" if lines else ", without a word"
    return ScriptError(f"the script {what}{last} (log: {os.path.relpath(_log(out))})", cause)


def _tail(out: Path) -> str:
    with suppress(OSError), _log(out).open("rb") as log:
        log.seek(max(0, _log(out).stat().st_size - _TAIL_BYTES))
        return log.read().decode("utf-8", errors="replace")
    return ""


def _memory_ran_out(out: Path) -> bool:
    last = _tail(out).strip().rpartition("\n")[2].lower()
    return "out of memory" in last or last.startswith("memoryerror")


def command_line(study: Study, values: Mapping[str, Any]) -> list[str]:
    """Return the words of a study's command with its placeholders filled in; ``python`` is the one that runs this."""
    words = expand(study.command, values)
    return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]


def check_script(study: Study) -> str:
    """Make sure that a study's script is there, before anything is planned.

    Returns:
        the fingerprint of its code: of the command's words and every file among them, or of the
            function's file.

    Raises:
        UsageError: the program, a file or the function is not there, or the function does not take
            what it is given.
    """
    if study.runner:
        _check_function(study.runner)
        return code_fingerprint([study.runner])
    program = study.command[0]
    if (
        not placeholders(program)
        and program not in ("python", "python3")
        and shutil.which(program) is None
    ):
        raise UsageError(
            f"command[0]: there is no program {program!r}",
            f"paths start from the working folder, {Path.cwd()}",
        )
    sources = hashlib.sha256(repr(study.command).encode())
    for index, file in _files(study.command):
        try:
            with file.open("rb") as stream:
                sources.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            told = f"command[{index}]: {str(file)!r} cannot be read: {error.strerror or error}"
            raise UsageError(told, f"paths start from the working folder, {Path.cwd()}") from None
    return sources.hexdigest()[:16]


def _files(command: Sequence[str]) -> list[tuple[int, Path]]:
    """The words of a command that are files, or should be: a path of an existing file, a .py, the module after ``-m``."""
    found = []
    for index, word in enumerate(command):
        if "{" in word or (index == 0 and "/" not in word):
            continue
        path = Path(word)
        if index and command[index - 1] == "-m":
            path = Path(*word.split("."))
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            if not path.is_file():  # an installed package's, whose version is its own business
                continue
        if path.suffix == ".py" or path.is_file():
            found.append((index, path))
    return found


def _check_function(name: str) -> None:
    function = load_plugin(name, what="runner")
    if not callable(function):
        raise UsageError(f"runner {name!r} is a {type(function).__name__}, not a function", _TAKES)
    try:
        inspect.signature(function).bind(seed=0, settings={}, out=Path())
    except TypeError as error:
        raise UsageError(
            f"runner {name!r} cannot be called as it would be: {error}", _TAKES
        ) from None
    except ValueError:  # built in, without a signature: its first call will tell
        return


_TAKES = "it takes (*, seed, settings, out) and returns its metrics, or writes metrics.json into the folder out"
