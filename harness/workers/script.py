"""Running a training script of yours, whatever it is written in, as a runner of cells.

A command is run without a shell, in the working folder (or in one of its own, with ``isolate``),
with ``HARNESS_OUT`` (a fresh, empty folder for every attempt) and ``HARNESS_SEED`` in its
environment. What it leaves there and what it prints become its metrics (``script_results``). It
lives in a session of its own under a guard, which ends all of it when the worker is gone, however
that happened.

An attempt that ended well is kept with a note of its seconds. When its result could not be read, or
is to be read by another rule, it is read again and not trained again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from harness.errors import TrialError
from harness.plugins import load_plugin
from harness.study.script_code import command_line, isolated_words, work_key
from harness.study.script_settings import expand
from harness.study.study import Study
from harness.study.trial import Cell, Outcomes, Trial
from harness.text import plural
from harness.workers.script_log import failure
from harness.workers.script_results import METRICS_FILE, Results, read_results
from harness.workers.script_sources import Kind

FOLDER = "scripts"  # beside the journal: a folder, a log and a note of every attempt
_MERCY_SECONDS = 3.0  # between asking a script to end and ending it

# Waits for its standard input to be closed, which the worker does by dying, and then ends its whole
# process group. The script's own standard input is a terminal of 24 x 120 that is at its end:
# progress bars ask `stty size` how wide it is, and whoever reads from it reads nothing.
_GUARD = """
import os, signal, struct, subprocess, sys, threading
def watch():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
given = subprocess.DEVNULL
try:
    import fcntl, termios
    inner, given = os.openpty()
    fcntl.ioctl(given, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    os.write(inner, termios.tcgetattr(given)[6][termios.VEOF] * 64)
except (ImportError, OSError):
    given = subprocess.DEVNULL
child = subprocess.Popen(sys.argv[1:], stdin=given)
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
class ScriptAttempt:
    """One run of a script for one cell.

    Attributes:
        out: its folder, ``HARNESS_OUT``.
        seconds: that it took; None until it has ended well.
        started: date and time, ISO 8601.
    """

    out: Path
    seconds: float | None = None
    started: str = ""

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.out.with_name(f"{self.out.name}.log")

    @property
    def note(self) -> Path:
        """What is known of an attempt that ended well, and how it was read the last time."""
        return self.out.with_name(f"{self.out.name}.json")


@dataclass(frozen=True, slots=True)
class ScriptRunner:
    """A ``Runner`` of a study's command or function.

    Attributes:
        study: with ``command`` or ``runner``.
        folder: of the study's ledger, where attempts have their folders and logs.
        environment: variables for the command on top of this process's.
    """

    study: Study
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, cell: Cell, /, *, device: str, threads: int, on_epoch: Callable[..., bool]
    ) -> tuple[Trial, Outcomes | None]:
        """Run one cell, or read what an earlier attempt left; nothing is said of epochs before the script has ended."""
        del threads, on_epoch  # threads are in the environment already
        kept = self._kept(cell)
        if kept is not None:
            return _trial(cell, *kept), None
        return self._run(cell, device)

    def _kept(self, cell: Cell) -> tuple[ScriptAttempt, Results] | None:
        """Return an attempt that ended well and can be read by the rules of today; None where the cell has to be trained."""
        for attempt in finished_attempts(self.folder, work_key(self.study, cell)):
            try:
                results = read_results(attempt.out, self.study, log=attempt.log)
            except TrialError:
                continue  # as it was not readable before: it is trained again, as asked
            _write_note(attempt, results)
            return attempt, results
        return None

    def _run(self, cell: Cell, device: str) -> tuple[Trial, Outcomes | None]:
        attempt = self._fresh(cell)
        clock = time.perf_counter()
        try:
            if self.study.runner:
                returned = self._function(cell, attempt.out)
            else:
                returned = None
                self._command(cell, attempt, device)
            ended = ScriptAttempt(attempt.out, time.perf_counter() - clock, attempt.started)
            _write_note(ended, None)
            results = self._read(ended, returned)
            _write_note(ended, results)
        except ScriptError as error:
            shown = {"state": "failed", "cause": error.cause, "error": error.message}
            return Trial.model_validate(
                {"cell": cell.key, "seed": cell.seed, "recipe": cell.recipe, **shown}
            ), None
        except BaseException as error:
            # handed back: this attempt never was
            if not isinstance(error, (Exception, SystemExit)):
                shutil.rmtree(attempt.out, ignore_errors=True)
                attempt.log.unlink(missing_ok=True)
                attempt.note.unlink(missing_ok=True)
            raise
        return _trial(cell, ended, results), None

    def _fresh(self, cell: Cell) -> ScriptAttempt:
        """Make an empty folder of this attempt."""
        base = self.folder.resolve() / FOLDER
        base.mkdir(parents=True, exist_ok=True)
        key, number = work_key(self.study, cell), 1
        while True:
            out = base / f"{key}-{number}"
            try:
                out.mkdir()
            except FileExistsError:
                number += 1
            else:
                return ScriptAttempt(out, started=time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def _function(self, cell: Cell, out: Path) -> Any:
        train = cast("TrainFunction", load_plugin(self.study.runner, what="runner"))
        returned = train(seed=cell.seed, settings=cell.recipe.flat(), out=out)
        if isinstance(returned, Mapping) and not (out / METRICS_FILE).exists():
            # so that it can be read again without training
            (out / METRICS_FILE).write_text(json.dumps(returned, default=_plain), encoding="utf-8")
        return returned

    def _command(self, cell: Cell, attempt: ScriptAttempt, device: str) -> None:
        """Run the command to its end.

        Raises:
            ScriptError: it did not end well.
        """
        values = {**cell.recipe.flat(), "seed": cell.seed, "out": attempt.out}
        words = command_line(self.study, values)
        environment = self._environment(values, device)
        folder = None
        if self.study.isolate:
            folder, words = attempt.out, isolated_words(words)
            _link(self.study, attempt.out)
            # modules of the working folder, for `python -m` and for imports of a package's own
            paths = [str(Path.cwd()), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        try:
            with attempt.log.open("wb") as log:
                code = _run(words, environment, log.fileno(), self.study.timeout_seconds, folder)
        except subprocess.TimeoutExpired:
            what = f"took longer than timeout_seconds = {self.study.timeout_seconds:g}"
            raise self._failed(what, attempt) from None
        if code < 0:
            cause: Literal["code", "infrastructure"] = (
                "infrastructure" if -code in _FROM_OUTSIDE else "code"
            )
            raise self._failed(f"was killed by {signal.Signals(-code).name}", attempt, cause)
        if code:
            cause = "infrastructure" if _memory_ran_out(attempt) else "code"
            raise self._failed(f"ended with exit code {code}", attempt, cause)

    def _environment(self, values: Mapping[str, Any], device: str) -> dict[str, str]:
        environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
        filled = zip(self.study.env, expand(tuple(self.study.env.values()), values), strict=True)
        environment |= dict(filled)
        environment |= {"HARNESS_OUT": str(values["out"]), "HARNESS_SEED": str(values["seed"])}
        if device == "cpu":
            # a script that takes what GPU it sees is kept to the plan
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return environment

    def _read(self, attempt: ScriptAttempt, returned: Any) -> Results:
        try:
            return read_results(attempt.out, self.study, returned, log=attempt.log)
        except TrialError as error:
            if self.study.runner:
                raise ScriptError(f"{self.study.runner}: {error.message}") from None
            where = f"(log: {os.path.relpath(attempt.log)})"
            raise ScriptError(f"the script ended well, but {error.message} {where}") from None

    def _failed(
        self,
        what: str,
        attempt: ScriptAttempt,
        cause: Literal["code", "infrastructure"] = "code",
    ) -> ScriptError:
        """The error of an attempt: its last words, the last frames of its traceback, and where the rest is."""
        why = failure(attempt.log)
        hint = _hint(why.message, isolated=bool(self.study.isolate))
        return ScriptError(
            f"the script {what}{why}{hint} (log: {os.path.relpath(attempt.log)})", cause
        )


def _trial(cell: Cell, attempt: ScriptAttempt, results: Results) -> Trial:
    return Trial(
        cell=cell.key,
        seed=cell.seed,
        recipe=cell.recipe,
        state="diverged" if results.diverged else "complete",
        metrics={} if results.diverged else results.metrics,
        epochs=results.epochs,
        train_seconds=attempt.seconds or 0.0,
        started=attempt.started,
        error=results.diverged,
        curve=results.curve,
    )


def finished_attempts(folder: Path, key: str) -> list[ScriptAttempt]:
    """Return the attempts at a piece of work that ended well, the last one first.

    Args:
        folder: of the study's ledger.
        key: as ``work_key`` gives it.
    """
    found = []
    for path in (folder.resolve() / FOLDER).glob(f"{key}-*.json"):
        note = read_note(path)
        out = path.with_suffix("")
        if note and out.is_dir():
            number = int(out.name.rpartition("-")[2])
            found.append((number, ScriptAttempt(out, float(note["seconds"]), str(note["started"]))))
    return [attempt for _, attempt in sorted(found, key=lambda pair: pair[0], reverse=True)]


def on_disk(study: Study, folder: Path, cells: Iterable[Cell]) -> int:
    """Return how many cells have an attempt that ended well, whose result is then read and not trained again."""
    return sum(bool(finished_attempts(folder, work_key(study, cell))) for cell in cells)


def reading_notes(study: Study, folder: Path, cells: Iterable[Cell]) -> list[str]:
    """Return what is to be said of how runs were read: a sentence for each kind of note, with the number of runs.

    Args:
        study: that they are of.
        folder: of its ledger.
        cells: that have been run.
    """
    kept = [finished_attempts(folder, work_key(study, cell)) for cell in cells]
    notes = [read_note(attempts[0].note) for attempts in kept if attempts]
    said: dict[str, list[str]] = {}
    for note in notes:
        for text in note.get("notes", ()):
            # alike but for their numbers
            said.setdefault(re.sub(r"\d+(?:\.\d+)?", "#", text), []).append(text)
    lines = [
        f"{texts[0]}{f' (and {len(texts) - 1} more like it)' if len(texts) > 1 else ''}"
        for texts in said.values()
    ]
    counts = {kind: sum(note.get("guessed") == kind for note in notes) for kind in _GUESSES}
    if all(counts.values()):
        read = " and ".join(f"{plural(n, 'run')} as {kind}" for kind, n in counts.items())
        lines.append(
            f"{study.metric} was read from {read}, by its size alone: `unit` in [metrics.{study.metric}] has to say which"
        )
    return lines


_GUESSES: tuple[Kind, ...] = ("percent", "share")


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of an attempt; empty where there is none, or where a crash cut it short."""
    with suppress(OSError, ValueError):
        note = json.loads(path.read_text(encoding="utf-8"))
        return note if isinstance(note, dict) and {"seconds", "started"} <= note.keys() else {}
    return {}


def _write_note(attempt: ScriptAttempt, results: Results | None) -> None:
    note: dict[str, Any] = {"seconds": attempt.seconds, "started": attempt.started}
    if results is not None:
        note |= {"notes": list(results.notes), "guessed": results.guessed}
    attempt.note.write_text(json.dumps(note), encoding="utf-8")


def _plain(value: object) -> object:
    """What json writes of a value that it does not know: a number where it is one, else its text."""
    with suppress(TypeError, ValueError):
        return float(value)  # type: ignore[arg-type]
    return str(value)


def _link(study: Study, folder: Path) -> None:
    """Link the files and folders that ``isolate`` names into a run's own working folder."""
    names = study.isolate if isinstance(study.isolate, tuple) else ()
    for name in names:
        (folder / name).symlink_to(Path(name).resolve())


def _hint(message: str, *, isolated: bool) -> str:
    """What may help, for failures that have one cause; empty else."""
    missing = _NO_FILE.search(message)
    if missing is None or not isolated:
        return ""
    name = Path(missing[1]).parts[0] if Path(missing[1]).parts else ""
    if name in ("", "/") or not Path(name).exists():
        return ""
    return f"; `isolate = [{name!r}]` gives every run a link to it"


_NO_FILE = re.compile(r"No such file or directory: '([^']+)'")
# a scheduler, a person, the system when memory runs out
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


def _run(
    words: Sequence[str],
    environment: Mapping[str, str],
    log: int,
    timeout_seconds: float,
    folder: Path | None,
) -> int:
    """Run a command to its end under the guard and return its exit code; whatever cuts this short ends the command too."""
    process: subprocess.Popen[bytes] | None = None
    try:
        process = subprocess.Popen(  # noqa: S603 - what the study names, without a shell
            [sys.executable, "-I", "-S", "-c", _GUARD, *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
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


def _memory_ran_out(attempt: ScriptAttempt) -> bool:
    last = failure(attempt.log).message.lower()
    return "out of memory" in last or last.startswith("memoryerror")
