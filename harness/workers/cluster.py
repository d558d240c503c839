"""Workers on other machines: as tasks of a SLURM job array (submitit), or of a Ray cluster.

The study is the queue; nothing here schedules. With PostgreSQL every task is a plain worker and
takes what comes next. Without, task I of N works off its share in a journal of its own in the
shared folder (``harness.ledger.shards``), which this process takes over while it watches. A task
that is killed, preempted or lost with its node is run again by the cluster, or by running the same
command again: only what is missing is done.

Without submitit a job array does the same, from a folder that the nodes share, after `harness
ablate --timeout 0` has planned the study; a task finds its I/N in the variables of the array:

    #SBATCH --array=1-50 --cpus-per-task=1 --time=04:00:00 --signal=USR1@60
    srun harness worker --study augmentations-full
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StorageError, TrialError, UsageError
from harness.ledger import Ledger
from harness.text import plural
from harness.workers.alike import FirstFailures
from harness.workers.events import Event, Finished, Note
from harness.workers.join import LaunchResult, join
from harness.workers.runner import OWN_RUNNER
from harness.workers.signals import Interrupts

_LOOK_SECONDS = 2.0  # between two looks at what the tasks have done
_ASK_SECONDS = 10.0  # between two questions to SLURM's controller, which many users share
_CONNECT_SECONDS = 20.0  # for a host that does not answer at all; one that refuses does so at once
_NO_RAY = "`ray start --head` starts one; its address goes into `address` of harness.toml or into RAY_ADDRESS"
_HOW = "Ctrl-C stops the watching, not the tasks; `harness status --study {name}` shows them, `harness report {name}` reports"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a task asks the cluster for.

    Attributes:
        minutes: SLURM's time limit; a task that meets it hands its cell back.
        gpus: GPUs a worker; a part of one is allowed on Ray.
        cpus: CPU cores a worker.
        partition: SLURM's; empty for the default.
        account: SLURM's; empty for the default.
        address: Ray's; empty for a cluster that is running here, or a new one.
    """

    minutes: int = 240
    gpus: float = 0.0
    cpus: int = 1
    partition: str = ""
    account: str = ""
    address: str = ""


def run_slurm(
    *,
    name: str,
    storage: str | None = None,
    artifacts: str | None = None,
    runs: Path = Path("runs"),
    workers: int,
    ask: Ask,
    runner: str = OWN_RUNNER,
    seconds: float | None = None,
    on_event: Callable[[Event], None],
    cluster: str = "slurm",
) -> LaunchResult:
    """Work off a planned study as a SLURM job array, and watch it. Ctrl-C ends the watching; the jobs go on.

    Args:
        name: the study's folder name.
        storage: PostgreSQL, or the path of a journal in a folder that all nodes share.
        artifacts: as ``Ledger.open`` takes it.
        runs: the folder of all runs, shared by all nodes.
        workers: tasks of the array.
        ask: what each of them needs.
        runner: ``module:function`` or ``file.py:function``.
        seconds: of a task's life after which it starts no trial; None for no such limit.
        on_event: called with what happens.
        cluster: ``slurm``; ``local`` runs the tasks as processes here, for trying it out.

    Raises:
        UsageError: submitit is not installed, or there is no SLURM here.
        StorageError: there is no such plan, or its tasks still wait or run.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "the slurm launcher needs submitit", "pip install 'harness[slurm]'"
        ) from None

    folder = runs.resolve() / name / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**_slurm_options(name, ask))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"could not submit tasks here: {error}", "run this on a login node of the cluster"
        ) from None

    with Ledger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False) as ledger:
        if cluster == "slurm":
            # waiting tasks of an earlier array would share the same cells
            _refuse_second_array(folder)
        tasks = _tasks(
            ledger,
            workers=workers,
            runs=runs,
            name=name,
            storage=storage,
            artifacts=artifacts,
            runner=runner,
            seconds=seconds,
        )
        with executor.batch():
            jobs = [executor.submit(task, given) for given in tasks]

        notes: list[Note] = []
        if jobs:
            sent = f"submitted {plural(len(jobs), 'task')} as job {_number(jobs[0])}"
            notes.append(Note("slurm", f"{sent}; their logs are in {folder}"))
            notes.append(Note("slurm", _HOW.format(name=name)))
        # submitit's own processes on this machine are in no queue
        left = _Queue(jobs).left if cluster == "slurm" else lambda: sum(not j.done() for j in jobs)
        return _follow(ledger, left, seconds, on_event, notes=notes)


def _slurm_options(name: str, ask: Ask) -> dict[str, Any]:
    """Return what is asked of SLURM, as submitit has it; what is left empty is the cluster's to decide."""
    options: dict[str, Any] = {
        "name": f"harness-{name}",
        "timeout_min": ask.minutes,
        "cpus_per_task": ask.cpus,
    }
    if ask.gpus:
        options["gpus_per_node"] = max(1, round(ask.gpus))
    if ask.partition:
        options["slurm_partition"] = ask.partition
    if ask.account:
        options["slurm_account"] = ask.account
    return options


def _number(job: Any) -> str:
    """Return the number of the array that a task is of."""
    return str(job.job_id).partition("_")[0]


class _Queue:
    """The tasks of a job array that have not ended, by the results they leave and by what SLURM's queue still lists.

    Not by ``sacct``, as submitit does it: without accounting a cancelled task would never end, and with it the question is put
    every ten minutes only.
    """

    def __init__(self, jobs: Sequence[Any]) -> None:
        self._jobs, self._asked = list(jobs), 0.0

    def left(self) -> int:
        """Return how many tasks have not ended."""
        self._jobs = [job for job in self._jobs if not job.paths.result_pickle.exists()]
        if self._jobs and time.monotonic() - self._asked > _ASK_SECONDS:
            self._asked = time.monotonic()
            listed = _listed(_number(self._jobs[0]))
            if listed is not None:
                self._jobs = [job for job in self._jobs if str(job.job_id) in listed]
        return len(self._jobs)


def _refuse_second_array(folder: Path) -> None:
    """Refuse to submit while tasks of the study still wait or run: waiting ones have written nothing that would tell.

    Raises:
        StorageError: there are some.
    """
    numbers = [int(path.name.partition("_")[0]) for path in folder.glob("[0-9]*_submission.sh")]
    listed = _listed(str(max(numbers))) if numbers else None
    if listed:
        raise StorageError(
            f"{plural(len(listed), 'task')} of job {max(numbers)} still wait or run",
            f"`squeue --job {max(numbers)}` shows them; wait for them, or `scancel {max(numbers)}` before sending new ones",
        )


def _listed(number: str) -> set[str] | None:
    """Return the tasks of a job that wait, run or are ending, as ``5_0``; None when SLURM does not say."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={number}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - a constant program
    except (OSError, subprocess.TimeoutExpired):
        return None
    # which is what it says of a job that is long over
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return set(done.stdout.split())


def run_ray(
    *,
    name: str,
    storage: str | None = None,
    artifacts: str | None = None,
    runs: Path = Path("runs"),
    workers: int,
    ask: Ask,
    runner: str = OWN_RUNNER,
    seconds: float | None = None,
    on_event: Callable[[Event], None],
) -> LaunchResult:
    """Work off a planned study as tasks of a Ray cluster, and watch it. Arguments as ``run_slurm`` has them.

    Raises:
        UsageError: ray is not installed, or no cluster can be reached.
        StorageError: there is no such plan, or its tasks are still running.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("the ray launcher needs ray", "pip install 'harness[ray]'") from None
    if not ray.is_initialized():
        _refuse_silence(ask.address or os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(address=ask.address or None, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"found no Ray cluster: {error}", _NO_RAY) from None
    # A task that its node takes along is run again on another: it goes on with what its share has
    # left.
    remote = ray.remote(num_cpus=ask.cpus, num_gpus=ask.gpus, max_retries=5)(task)
    with Ledger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False) as ledger:
        tasks = _tasks(
            ledger,
            workers=workers,
            runs=runs,
            name=name,
            storage=storage,
            artifacts=artifacts,
            runner=runner,
            seconds=seconds,
        )
        open_ = [remote.remote(given) for given in tasks]
        sent = f"sent {plural(len(open_), 'task')} to the cluster; they end with this command"
        notes = [Note("ray", sent)] if open_ else []

        def left() -> int:
            nonlocal open_
            done, open_ = ray.wait(open_, num_returns=len(open_), timeout=0) if open_ else ([], [])
            for reference in done:
                # what went wrong in a task is in its log; its cells are simply still open
                with suppress(Exception):
                    ray.get(reference)
            return len(open_)

        return _follow(ledger, left, seconds, on_event, notes=notes)


def _refuse_silence(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself goes on trying for minutes, deaf to Ctrl-C.

    Raises:
        UsageError: nothing listens there.
    """
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not port.isdigit():  # as "auto", which Ray looks up
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"found no Ray cluster at {address}: {error}", _NO_RAY) from None


def task(given: Mapping[str, Any]) -> int:
    """Be one task of a cluster; return how many trials it recorded."""
    if Path(given["folder"]).is_dir():  # a study may name files of the user's from there
        os.chdir(given["folder"])
    # a node whose images are elsewhere says so itself
    if given["data_root"] and Path(given["data_root"]).is_dir():
        os.environ.setdefault("HARNESS_DATA", given["data_root"])
    names = {key: given[key] for key in ("name", "storage", "artifacts", "shard", "runner")}
    deadline = None if given["seconds"] is None else time.monotonic() + given["seconds"]
    return join(
        **names, runs=Path(given["runs"]), deadline=deadline, on_event=lambda _: None
    ).recorded


def _tasks(
    ledger: Ledger, *, workers: int, runs: Path, **names: Any
) -> Sequence[Mapping[str, Any]]:
    counts = ledger.counts()
    if counts.running:
        raise StorageError(
            f"{counts.running} cells of {ledger.name} are running",
            "run `harness status` to see where; wait for them, or cancel the jobs before you send new ones",
        )
    if names["storage"] is not None and "://" not in names["storage"]:
        # a task may start in another folder
        names["storage"] = str(Path(names["storage"]).resolve())
    plan = ledger.latest_plan()
    places = {
        "runs": str(runs.resolve()),
        "folder": str(Path.cwd()),
        "data_root": plan.data_root if plan else "",
    }
    total = min(workers, counts.open)

    # Nodes cannot share a journal's lock over a network: each task gets a share and a journal of
    # its own.
    shards = [None] * total if ledger.many_hosts else [(index + 1, total) for index in range(total)]
    return [{**names, **places, "shard": shard} for shard in shards]


def _follow(
    ledger: Ledger,
    left: Callable[[], int],
    seconds: float | None,
    on_event: Callable[[Event], None],
    *,
    notes: Sequence[Note] = (),
) -> LaunchResult:
    """Say what was sent, then report every trial that appears until no task is left; Ctrl-C ends it from its first word."""
    end = None if seconds is None else time.monotonic() + seconds
    recorded = failed = 0
    interrupts = Interrupts()
    first = FirstFailures(ledger)
    with interrupts.counted():
        # Tasks send no events: what they recorded is seen in the ledger.
        known = {trial.cell for trial in ledger.trials()}
        for note in notes:
            on_event(note)
        while not interrupts.count:
            running = left()
            ledger.absorb()
            for trial in ledger.trials():
                if trial.cell not in known:
                    known.add(trial.cell)
                    recorded += 1
                    failed += trial.state == "failed"
                    on_event(Finished(trial.worker, trial))
                    first.hear(Finished(trial.worker, trial))
            if not running:
                break
            interrupts.came.wait(_LOOK_SECONDS)
    interrupted = bool(interrupts.count)
    missing = ledger.unfinished()
    late = end is not None and time.monotonic() >= end
    # Each task stops by itself after its own first trials, and its log has the traceback.
    error = first.error
    if error is None and missing and not interrupted and not late:
        error = TrialError(
            f"the tasks ended and left {missing} cells",
            "run the same command again; the tasks' logs say why",
        )
    return LaunchResult(
        recorded,
        failed,
        0,
        missing,
        interrupted=interrupted,
        out_of_time=bool(missing and late),
        error=error,
    )
