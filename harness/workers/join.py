"""Joining a study's workers: what ``harness worker`` does, and what every launcher starts somewhere."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, StorageError
from harness.ledger import Plan
from harness.search import SearchLedger, is_search
from harness.study.arms import arms
from harness.study.fingerprints import study_code
from harness.study.script_code import check_script
from harness.workers.alike import FirstFailures
from harness.workers.drain import DrainResult, drain
from harness.workers.events import Event
from harness.workers.runner import OWN_RUNNER, runner_for

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# a worker runs what is planned, and failed trials are not planned any more
_PLAN_AGAIN = "run the command that planned this study again: it plans the failed trials again"


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """How a run of workers ended.

    Attributes:
        recorded, failed: trials recorded, and how many of them failed.
        died: worker processes that ended unasked.
        open: planned cells that are not final.
        interrupted: whether somebody pressed Ctrl-C or sent SIGTERM.
        out_of_time: whether the deadline ended it.
        error: what made workers give up; None when nothing did.
        hurried: whether they pressed it again, to leave without a report.
    """

    recorded: int
    failed: int
    died: int
    open: int
    interrupted: bool
    out_of_time: bool
    error: HarnessError | None = None
    hurried: bool = False


def join(
    *,
    name: str,
    storage: str | None = None,
    artifacts: str | None = None,
    runs: Path = Path("runs"),
    worker: str = "",
    device: str = "",
    shard: tuple[int, int] | None = None,
    runner: str = OWN_RUNNER,
    deadline: float | None = None,
    max_trials: int | None = None,
    on_event: Callable[[Event], None],
    stop: threading.Event | None = None,
) -> DrainResult:
    """Work in this process on a study that was planned elsewhere, after checking that it would run what was planned.

    Args:
        name: the study's folder name.
        storage: as ``Ledger.open`` takes it.
        artifacts: the same.
        runs: the same.
        worker: this worker's name; empty for host and process.
        device: empty for the plan's.
        shard: (I, N) to work off that share in a journal of its own, without a server.
        runner: ``module:function`` or ``file.py:function``.
        deadline: on ``time.monotonic()``; no cell is claimed after it.
        max_trials: leave after so many.
        on_event: called with what happens.
        stop: set to make the worker leave.

    Raises:
        StorageError: there is no such plan, or engine, recipe schema, images, plug-in code or a
            script differ from it.
        TrialError: the first trials here have all failed by one fault, and nobody else's ended better.
        UsageError: there is no such runner.
        DataError: the images are missing or unreadable here.
    """
    ledger = (
        SearchLedger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False)
        if shard is None
        else SearchLedger.open_shard(name, shard, storage=storage, runs=runs)
    )
    with ledger:
        plan = ledger.latest_plan()
        if plan is None:
            raise StorageError(f"nothing is planned for {name}", "run `harness ablate` to plan it")
        for variable in THREADS:  # before anything is imported that counts threads
            os.environ[variable] = str(plan.threads)
        run_cell = runner_for(runner, plan.study, runs / name)
        if runner == OWN_RUNNER:
            code = check_script(plan.study) if plan.study.scripted else study_code(plan.study)
            images = _images(plan, search=is_search(ledger.cells()))
            ledger.match(data_fingerprint=images, code_fingerprint=code)
        first, halt = FirstFailures(ledger, _PLAN_AGAIN), stop or threading.Event()

        def hear(event: Event) -> None:
            on_event(event)
            if first.hear(event):
                halt.set()

        done = drain(
            ledger,
            run_cell,
            worker=worker or f"{socket.gethostname()}-{os.getpid()}",
            device=device or plan.device,
            threads=plan.threads,
            deadline=deadline,
            max_trials=max_trials,
            on_event=hear,
            stop=halt,
        )
    if first.error is not None:
        raise first.error
    return done


def _images(plan: Plan, *, search: bool) -> str:
    """The fingerprint of the images that a plan was made on: of a study's first arm, of a search's base recipe."""
    if plan.study.scripted:
        return ""
    from harness.train.parts import arena

    recipe = plan.study.base_recipe if search else arms(plan.study)[0].recipe
    return arena(recipe.data, "cpu").split.fingerprint
