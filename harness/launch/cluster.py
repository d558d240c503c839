"""Workers on other machines: as tasks of a SLURM job array (submitit), or of a Ray cluster.

The study is the queue; nothing here schedules. With PostgreSQL every task is a plain worker and takes what comes next.
Without, task I of N works off its share in a journal of its own in the shared folder (``harness.ledger.shards``), which this
process takes over while it watches. A task that is killed, preempted or lost with its node is run again by the cluster, or by
running the same command again: only what is missing is done.

Without submitit a job array does the same, from a folder that the nodes share, after `harness ablate` has planned the study
(Ctrl-C is enough); a task finds its I/N in the variables of the array:

    #SBATCH --array=1-50 --cpus-per-task=1 --time=04:00:00 --signal=USR1@60
    srun harness worker --study augmentations-full
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StorageError, TrialError, UsageError
from harness.launch.join import LaunchResult, join
from harness.ledger import Ledger
from harness.worker import OWN_RUNNER, Event, Finished, Note

_LOOK_SECONDS = 2.0  # between two looks at what the tasks have done


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
        on_event: told what happens.
        cluster: ``slurm``; ``local`` runs the tasks as processes here, for trying it out.

    Raises:
        UsageError: submitit is not installed, or there is no SLURM here.
        StorageError: there is no such plan, or its tasks are still running.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError("the slurm launcher needs submitit", "pip install 'harness[slurm]'") from None
    folder = runs.resolve() / name / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        options: dict[str, Any] = {"name": f"harness-{name}", "timeout_min": ask.minutes, "cpus_per_task": ask.cpus}
        if ask.gpus:
            options["gpus_per_node"] = max(1, round(ask.gpus))
        named = {"slurm_partition": ask.partition, "slurm_account": ask.account}
        executor.update_parameters(**options, **{key: value for key, value in named.items() if value})
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"no tasks can be submitted here: {error}", "run it on a login node of the cluster") from None
    with Ledger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False) as ledger:
        tasks = _tasks(ledger, name=name, storage=storage, artifacts=artifacts, runs=runs, workers=workers, runner=runner)
        with executor.batch():
            jobs = [executor.submit(task, given) for given in tasks]
        on_event(
            Note(
                "slurm", f"submitted {len(jobs)} tasks as {jobs[0].job_id.partition('_')[0]}; logs in {folder}" if jobs else ""
            )
        )
        return _follow(ledger, lambda: sum(not job.done() for job in jobs), on_event)


def run_ray(
    *,
    name: str,
    storage: str | None = None,
    artifacts: str | None = None,
    runs: Path = Path("runs"),
    workers: int,
    ask: Ask,
    runner: str = OWN_RUNNER,
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
        try:
            ray.init(address=ask.address or None, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"no Ray cluster can be reached: {error}", "`ray start --head` starts one") from None
    # A task that its node takes along is run again on another: it goes on with what its share has left.
    remote = ray.remote(num_cpus=ask.cpus, num_gpus=ask.gpus, max_retries=5)(task)
    with Ledger.open(name, storage=storage, artifacts=artifacts, runs=runs, create=False) as ledger:
        tasks = _tasks(ledger, name=name, storage=storage, artifacts=artifacts, runs=runs, workers=workers, runner=runner)
        open_ = [remote.remote(given) for given in tasks]

        def left() -> int:
            nonlocal open_
            done, open_ = ray.wait(open_, num_returns=len(open_), timeout=0) if open_ else ([], [])
            for reference in done:
                with suppress(Exception):  # what went wrong in a task is in its log; its cells are simply still open
                    ray.get(reference)
            return len(open_)

        return _follow(ledger, left, on_event)


def task(given: Mapping[str, Any]) -> int:
    """Be one task of a cluster; return how many trials it recorded."""
    names = {key: given[key] for key in ("name", "storage", "artifacts", "shard", "runner")}
    return join(**names, runs=Path(given["runs"]), on_event=lambda _: None).recorded


def _tasks(ledger: Ledger, *, workers: int, runs: Path, **names: Any) -> Sequence[Mapping[str, Any]]:
    counts = ledger.counts()
    if counts.running:
        raise StorageError(
            f"{counts.running} cells of {ledger.name} are running",
            "`harness status` says where; wait for them or cancel the jobs before sending new ones",
        )
    total = min(workers, counts.open)
    shards = [None] * total if ledger.many_hosts else [(index + 1, total) for index in range(total)]
    return [{**names, "runs": str(runs.resolve()), "shard": shard} for shard in shards]


def _follow(ledger: Ledger, left: Callable[[], int], on_event: Callable[[Event], None]) -> LaunchResult:
    """Tell of every trial that appears, until no task is left."""
    known = {trial.cell for trial in ledger.trials()}
    recorded = failed = 0
    interrupted = False
    try:
        while True:
            running = left()
            ledger.absorb()
            for trial in ledger.trials():
                if trial.cell not in known:
                    known.add(trial.cell)
                    recorded += 1
                    failed += trial.state == "failed"
                    on_event(Finished(trial.worker, trial))
            if not running:
                break
            threading.Event().wait(_LOOK_SECONDS)
    except KeyboardInterrupt:
        interrupted = True
        on_event(Note("cluster", "not watching any longer; the tasks go on, and `harness status` shows them"))
    missing = ledger.unfinished()
    error = None
    if missing and not interrupted:
        error = TrialError(f"the tasks ended with {missing} cells left", "run the same command again; the tasks' logs say why")
    return LaunchResult(recorded, failed, 0, missing, interrupted=interrupted, out_of_time=False, error=error)
