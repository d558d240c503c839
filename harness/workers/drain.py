"""The one loop that works off a plan: claim a cell, run it, record it, until nothing is left or somebody says stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from harness.errors import DataError, DeviceLostError, StorageError
from harness.ledger import Claim, Ledger
from harness.ledger.provenance import completed
from harness.study.trial import Outcomes, Trial
from harness.workers.events import Claimed, EpochDone, Event, Finished, HandedBack, Note
from harness.workers.runner import Runner, failed

# the last two are what schedulers send before they kill
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
# seconds between looks at a queue that others are working off
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What a worker did.

    Attributes:
        recorded: trials.
        failed: how many of them failed.
        why: what made it leave: ``done``, ``stopped``, ``deadline`` or ``enough``.
    """

    recorded: int
    failed: int
    why: str


class Interrupted(BaseException):
    """Somebody asked this worker to stop while a trial was running."""


def drain(
    ledger: Ledger,
    runner: Runner,
    *,
    worker: str,
    device: str,
    threads: int,
    deadline: float | None,
    max_trials: int | None,
    on_event: Callable[[Event], None],
    stop: threading.Event,
) -> DrainResult:
    """Work off the ledger's plan.

    A worker that finds nothing waiting stays while any planned cell is not final, looking out for
    dead workers: what they held comes back to it. On SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 (in the
    main thread), or when ``stop`` is set, it hands its cell back and leaves: in the midst of an
    epoch after a signal, at the epoch's end otherwise.

    Args:
        ledger: with a plan.
        runner: what runs a cell.
        worker: this worker's name.
        device: handed to the runner.
        threads: the same, as the plan fixes them.
        deadline: on ``time.monotonic()``; no cell is claimed after it, and the one in hand is
            finished.
        max_trials: leave after so many.
        on_event: called with what happens, in this thread.
        stop: set to make the worker leave.

    Raises:
        StorageError: the storage or the artifact folder does not work.
        DataError: the images are missing or unreadable here; the cell is handed back.
        DeviceLostError: the GPU stopped answering during a trial, which is recorded as lost to the infrastructure. Every
            further trial of this process would fail, too: the worker has to be replaced.
    """
    ledger.artifacts.check()
    recorded = lost = 0
    pause = _SHORTEST_PAUSE
    with _Guard(stop).installed() as guard:
        while True:
            why = _leave(stop, deadline, max_trials, recorded)

            # What is claimed is always finished or handed back; only between two cells may a worker
            # leave.
            claim = None if why else ledger.claim(worker)
            if claim is None:
                if why or ledger.unfinished() == 0:
                    return DrainResult(recorded, lost, why or "done")
                # nothing waits, yet cells are open: their workers may be dead
                ledger.reap()
                stop.wait(
                    pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic()))
                )
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _SHORTEST_PAUSE
            on_event(Claimed(worker, claim.cell.key, claim.cell.seed, claim.attempt))
            trial = _work(
                ledger, runner, claim, guard, device=device, threads=threads, on_event=on_event
            )
            if trial is not None:
                recorded += 1
                lost += trial.state == "failed"


def _leave(
    stop: threading.Event, deadline: float | None, max_trials: int | None, recorded: int
) -> str:
    if stop.is_set():
        return "stopped"
    if deadline is not None and time.monotonic() >= deadline:
        return "deadline"
    return "enough" if max_trials is not None and recorded >= max_trials else ""


def _work(
    ledger: Ledger,
    runner: Runner,
    claim: Claim,
    guard: _Guard,
    *,
    device: str,
    threads: int,
    on_event: Callable[[Event], None],
) -> Trial | None:
    """Run one claimed cell and record it; None when it was handed back or came too late."""
    cell, started = claim.cell, time.strftime("%Y-%m-%dT%H:%M:%S%z")

    def on_epoch(epoch: int, values: Mapping[str, float]) -> bool:
        with guard.closed():
            halt = ledger.report(claim, epoch, values)
            on_event(
                EpochDone(claim.worker, cell.key, epoch, cell.recipe.train.epochs, dict(values))
            )
        return halt

    try:
        with guard.opened():
            trial, outcomes, raised = _attempt(
                runner, claim, device=device, threads=threads, on_epoch=on_epoch
            )
    except Interrupted:
        ledger.release(claim)
        on_event(HandedBack(claim.worker, cell.key))
        return None
    except (
        BaseException
    ):  # data missing, storage away, the loop's own end: nothing that this cell is to blame for
        ledger.release(claim)
        raise
    lost = trial.state == "failed" and _device_lost(device)
    if lost:
        trial = trial.model_copy(update={"cause": "infrastructure"})

    # From here on nothing is cut short: a result that took minutes is recorded, signal or not.
    environment = completed(trial.environment, device=device, threads=threads)
    trial = trial.model_copy(
        update={"environment": environment, "started": trial.started or started}
    )
    kept = ledger.record(claim, trial, outcomes)
    if kept is None:
        on_event(
            Note(
                claim.worker, f"trial {cell.key} came too late: this worker already counted as dead"
            )
        )
    else:
        on_event(Finished(claim.worker, kept, raised))
    if lost:
        raise DeviceLostError(
            f"{device} stopped answering: {trial.error}",
            "a new process can use it, unless it is broken",
        )
    return kept


def _device_lost(device: str) -> bool:
    """Return whether CUDA answers this process no more: after some errors each further call raises the same one."""
    torch = sys.modules.get("torch")  # not imported for the sake of the question
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def _attempt(runner: Runner, claim: Claim, **context: Any) -> tuple[Trial, Outcomes | None, str]:
    """Run the cell; what its code raises makes a failed trial, and is returned as a traceback."""
    try:
        trial, outcomes = runner(claim.cell, **context)
    except (DataError, StorageError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's training code raises
        return failed(claim.cell, error), None, traceback.format_exc().rstrip()
    # a runner that mixes cells up would file a result under another's key
    if trial.cell != claim.cell.key:
        return (
            failed(
                claim.cell, ValueError(f"the runner was given this cell and returned {trial.cell}")
            ),
            None,
            "",
        )
    return trial, outcomes, ""


class _Guard:
    """Lets a signal cut a runner short, and nothing else: what writes to the ledger is always finished."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._open = False

    @contextmanager
    def installed(self) -> Iterator[_Guard]:
        """Take over the signals for a while; elsewhere than in the main thread, only ``stop`` is heeded."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Run what may be cut short."""
        if self._stop.is_set():
            raise Interrupted
        self._open = True
        try:
            yield
        finally:
            self._open = False

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Run what may not, inside of what may."""
        self._open = False
        try:
            yield
        finally:
            self._open = True
        if self._stop.is_set():
            raise Interrupted

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        self._stop.set()
        if self._open:
            self._open = False  # a second signal must not cut the handing back short
            raise Interrupted
