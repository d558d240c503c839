"""Workers as processes on this machine.

They are processes also when it is only one: a crash of the training code, or the system's
out-of-memory killer, then takes one trial with it and not the program, and Ctrl-C has one meaning.
A worker gets its orders on its standard input and answers in events on its standard output; what
training code prints goes to a log next to the journal. When the input closes, because the parent was
killed, the worker hands its cell back and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness import errors
from harness.errors import DeviceLostError, HarnessError, TrialError
from harness.ledger import Ledger
from harness.search import SearchLedger
from harness.workers.alike import FirstFailures
from harness.workers.drain import drain
from harness.workers.events import EpochDone, Event, Finished, Note, WorkerDied, decode, encode
from harness.workers.join import THREADS, LaunchResult
from harness.workers.runner import OWN_RUNNER, load_runner, runner_for
from harness.workers.signals import Interrupts

# of one worker in a row, without a trial finished in between, before it is not started again
DEATHS = 3
_BOOT = (
    "import json,sys; spec=json.loads(sys.stdin.readline()); sys.path[:]=spec['path']; "
    "from harness.workers.local import serve; serve(spec)"
)
_EPOCH_SECONDS = 0.5  # between two epochs that a worker tells of
_STOPPING = (
    "stopping: the trials that run go back to the queue, then the report is written; "
    "Ctrl-C again leaves at once, without a report"
)


@dataclass(slots=True)
class _Slot:
    """A place for a worker: its process, and what is known of it."""

    name: str
    device: str
    process: subprocess.Popen[str]
    ended: dict[str, Any] = field(default_factory=dict)  # its last message
    silent: bool = False  # its output has been read to the end
    deaths: int = 0


def run_local(
    *,
    name: str,
    storage: str | None = None,
    artifacts: str | None = None,
    runs: Path = Path("runs"),
    workers: int,
    devices: Sequence[str] = ("cpu",),
    threads: int,
    runner: str = OWN_RUNNER,
    deadline: float | None = None,
    on_event: Callable[[Event], None],
) -> LaunchResult:
    """Work off a planned study with processes on this machine.

    The first Ctrl-C (or SIGTERM) has every worker hand its cell back, which takes a moment; the
    second kills them, and their cells are found by the next run. A worker that dies is replaced,
    its cell first given back, until it has died ``DEATHS`` times in a row without any trial being
    finished by it.

    Args:
        name: the study's folder name.
        storage: as ``Ledger.open`` takes it.
        artifacts: the same.
        runs: the same.
        workers: how many processes.
        devices: ``cpu``, ``cuda``, ``cuda:1``...; dealt out to the workers in turn. A worker on
            ``cuda:1`` sees only that GPU.
        threads: CPU threads a worker, set before anything is imported that counts them.
        runner: ``module:function`` or ``file.py:function``.
        deadline: on ``time.monotonic()``; no cell is claimed after it, and those in hand are
            finished.
        on_event: called with what happens, in this thread.

    Raises:
        StorageError: there is no such ledger.
    """
    with Ledger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False) as ledger:
        spec = {
            "name": name,
            "storage": storage,
            "artifacts": artifacts,
            "runs": str(runs),
            "threads": threads,
            "runner": runner,
            # Linux, macOS and Windows count from boot, the same in every process
            "deadline": deadline,
            "path": sys.path,
        }
        plan = ledger.latest_plan()
        crew = _Crew(
            ledger, spec, runs / name / "logs", on_event, data_root=plan.data_root if plan else ""
        )
        for index in range(min(workers, max(ledger.unfinished(), 1))):
            crew.start(f"{socket.gethostname()}-{index + 1}", devices[index % len(devices)])
        return crew.watch()


class _Crew:
    """The worker processes of one run."""

    def __init__(
        self,
        ledger: Ledger,
        spec: Mapping[str, Any],
        logs: Path,
        on_event: Callable[[Event], None],
        *,
        data_root: str,
    ) -> None:
        self._ledger, self._spec, self._logs, self._on_event, self._data_root = (
            ledger,
            spec,
            logs,
            on_event,
            data_root,
        )
        self._slots: list[_Slot] = []
        self._inbox: queue.Queue[tuple[_Slot, str | None]] = queue.Queue()
        self._interrupts = Interrupts()
        self._told = 0
        self._recorded = self._failed = self._died = 0
        self._error: HarnessError | None = None
        self._first = FirstFailures(ledger)

    def start(self, name: str, device: str, deaths: int = 0) -> None:
        """Start a worker in a place of its own."""
        self._logs.mkdir(parents=True, exist_ok=True)
        inside, environment = worker_environment(
            device, int(self._spec["threads"]), self._data_root
        )
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this Python, a constant program
                [sys.executable, "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                encoding="utf-8",
                # Ctrl-C in the terminal is for the parent, which then decides
                start_new_session=True,
            )
        slot = _Slot(name, device, process, deaths=deaths)
        self._slots.append(slot)
        self._tell(slot, json.dumps({**self._spec, "worker": name, "device": inside}))
        threading.Thread(
            target=self._listen, args=(slot,), name=f"harness-{name}", daemon=True
        ).start()

    def watch(self) -> LaunchResult:
        """Relay events until every worker has ended."""
        with self._interrupts.counted():
            try:
                while self._slots:
                    self._turn()
            finally:
                self._kill()  # only after an exception: nobody outlives this call
        left = self._ledger.unfinished()
        deadline = self._spec["deadline"]
        late = deadline is not None and time.monotonic() >= deadline
        if left and not self._interrupts.count and not late and self._error is None:
            self._error = TrialError(
                "the workers ended before the plan was done", f"their logs are in {self._logs}"
            )
        return LaunchResult(
            self._recorded,
            self._failed,
            self._died,
            left,
            bool(self._interrupts.count),
            bool(left and late),
            self._error,
            hurried=self._interrupts.count > 1,
        )

    def _turn(self) -> None:
        with suppress(queue.Empty):
            slot, line = self._inbox.get(timeout=0.2)
            if line is None:
                slot.silent = True
            else:
                self._relay(slot, line)

        # The first Ctrl-C asks, the second kills.
        if self._interrupts.count > self._told:
            self._told = self._interrupts.count
            for slot in self._slots:
                self._tell(slot, "stop")
            if self._told > 1:
                self._kill()
            else:
                self._on_event(Note("", _STOPPING))
        for slot in [
            slot for slot in self._slots if slot.silent and slot.process.poll() is not None
        ]:
            self._slots.remove(slot)
            self._close(slot)
            self._ended(slot)

    def _relay(self, slot: _Slot, line: str) -> None:
        try:
            event = decode(line)
        except ValueError:
            with suppress(ValueError):
                slot.ended = json.loads(line)
            return
        if isinstance(event, Finished):
            # what finishes trials is sound, whatever killed it before; a broken GPU fails a trial
            # before each death
            if event.trial.cause != "infrastructure":
                slot.deaths = 0
            self._recorded += 1
            self._failed += event.trial.state == "failed"
        self._on_event(event)
        if self._error is None and self._first.hear(event):
            self._error = self._first.error
            for other in self._slots:
                self._tell(other, "stop")

    def _ended(self, slot: _Slot) -> None:
        """See why a worker has ended, and replace it when it died."""
        if "error" in slot.ended:
            kind = getattr(errors, slot.ended["kind"], HarnessError)
            self._error = self._error or kind(slot.ended["error"], slot.ended["hint"])
            self._on_event(Note(slot.name, f"stopped: {slot.ended['error']}"))
        if slot.ended:
            return
        # it ended without a last word
        reason = _why(slot.process.returncode, self._logs / f"{slot.name}.log")
        if not self._interrupts.count:
            self._died += 1
            self._on_event(WorkerDied(slot.name, reason))

        # The parent knows at once that its child is gone; no lease has to run out.
        self._ledger.reap()
        if self._interrupts.count:
            return
        if slot.deaths + 1 < DEATHS:
            self.start(slot.name, slot.device, slot.deaths + 1)
        else:
            self._error = TrialError(
                f"worker {slot.name} died {DEATHS} times in a row: {reason}",
                f"its log is in {self._logs}",
            )

    def _listen(self, slot: _Slot) -> None:
        stream: IO[str] | None = slot.process.stdout
        with suppress(OSError, ValueError):
            for line in stream or ():
                self._inbox.put((slot, line))
        self._inbox.put((slot, None))

    def _tell(self, slot: _Slot, line: str) -> None:
        with suppress(OSError, ValueError):
            if slot.process.stdin is not None:
                slot.process.stdin.write(line + "\n")
                slot.process.stdin.flush()

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process.poll() is None:
                slot.process.kill()
        for slot in self._slots:
            slot.process.wait()

    def _close(self, slot: _Slot) -> None:
        for stream in (slot.process.stdin, slot.process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def worker_environment(device: str, threads: int, data_root: str) -> tuple[str, dict[str, str]]:
    """Return the device's name as the worker sees it, and the worker's environment."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONUNBUFFERED": "1"}
    if data_root:
        environment["HARNESS_DATA"] = data_root
    kind, _, index = device.partition(":")
    # without a number the worker chooses as this process would
    if kind != "cuda" or not index:
        return device, environment
    # of the GPUs that this process may see, which a scheduler may have chosen
    visible = [item for item in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if item]
    environment["CUDA_VISIBLE_DEVICES"] = (
        visible[int(index)] if int(index) < len(visible) else index
    )
    return "cuda", environment


def _why(code: int, log: Path) -> str:
    """Say why a process ended: by which signal, or with which last words."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    last = ""
    with suppress(OSError):
        written = log.read_text(encoding="utf-8", errors="replace").splitlines()
        # an error of ours ends with its hint, and the reason is before it
        lines = [line for line in written if line.strip() and not line.startswith("hint: ")]
        last = lines[-1].strip()[:200] if lines else ""
    return f"exit code {code}{': ' + last if last else ''}"


def serve(spec: Mapping[str, Any]) -> None:
    """Be a worker of ``run_local``: drain what the specification names, telling events on standard output."""
    # a copy, so that what training code prints cannot mix with events
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what training code prints belongs to the log
    last_epoch = 0.0

    def tell(event: Event) -> None:
        nonlocal last_epoch
        if isinstance(event, EpochDone):
            # epochs of milliseconds would flood the pipe
            if time.monotonic() - last_epoch < _EPOCH_SECONDS:
                return
            last_epoch = time.monotonic()
        _say(channel, encode(event))

    threading.Thread(target=_obey, name="harness-parent", daemon=True).start()
    try:
        names = {key: spec[key] for key in ("storage", "artifacts")}
        with SearchLedger.open(
            spec["name"], runs=Path(spec["runs"]), create=False, **names
        ) as ledger:
            plan = ledger.latest_plan()
            result = drain(
                ledger,
                runner_for(spec["runner"], plan.study, Path(spec["runs"]) / spec["name"])
                if plan
                else load_runner(spec["runner"]),
                worker=spec["worker"],
                device=spec["device"],
                threads=spec["threads"],
                deadline=spec["deadline"],
                max_trials=None,
                on_event=tell,
                stop=threading.Event(),
            )
        _say(channel, json.dumps({"ended": result.why}))
    except DeviceLostError:
        raise  # ends this process without a last message: it is replaced, as one that was killed
    except HarnessError as error:
        _say(
            channel,
            json.dumps(
                {
                    "ended": "error",
                    "error": error.message,
                    "hint": error.hint,
                    "kind": type(error).__name__,
                }
            ),
        )


def _say(channel: IO[str], line: str) -> None:
    with suppress(BrokenPipeError, ValueError):  # the parent is gone: _obey sees to the rest
        channel.write(line + "\n")
        channel.flush()


def _obey() -> None:
    """Wait for the parent to say stop, or to be gone, and pass it on as the signal that a worker heeds at once."""
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGTERM)
