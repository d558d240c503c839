"""Commands for runs that go on elsewhere: status, worker."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import console
from harness.cli.app import CLUSTER, Json, Storage, Timeout, app
from harness.cli.place import storage_of

if TYPE_CHECKING:
    from harness.ledger import Ledger

StudyFolder = Annotated[str, typer.Option("--study", "-s", help="A study's folder name, as augmentations-quick.")]
_STATES = ("waiting", "running", "complete", "pruned", "diverged", "failed")


@app.command(rich_help_panel=CLUSTER)
def status(
    *,
    study: StudyFolder,
    storage: Storage = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds until all is final.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout; with --watch, a document a line.")
    ] = False,
) -> None:
    """Say of every arm how many trials wait, run, and are final, who runs what since when, and when all will be done."""
    from harness.search import SearchLedger

    with SearchLedger.open(study, storage=storage_of(storage), create=False) as ledger:
        while True:
            if json:
                console.data_json(_status(ledger), line=watch)
            else:
                _show_status(ledger)
            if not watch or ledger.counts().open == 0:
                return
            time.sleep(5)


def _status(ledger: Ledger) -> dict[str, Any]:
    from harness.ledger.pace import pace_of

    counts = ledger.counts()
    pace = pace_of(ledger.trials())
    running = [
        {"cell": one.cell.key, "seed": one.cell.seed, "worker": one.worker, "since": one.since}
        for one in ledger.standings()
        if one.state == "running"
    ]
    return {
        "study": ledger.name,
        "trials": {name: getattr(counts, name) for name in (*_STATES, "total")},
        "arms": {arm: dict(states) for arm, states in _by_arm(ledger).items()},
        "running": running,
        "trials_per_hour": pace,
        "seconds_left": counts.open / pace * 3600 if pace and counts.running else None,
    }


def _by_arm(ledger: Ledger) -> dict[str, Counter[str]]:
    from harness.study.arms import arms

    plan = ledger.latest_plan()
    names = {arm.recipe.id: arm.name for arm in arms(plan.study)} if plan is not None and not plan.study.space else {}
    table: dict[str, Counter[str]] = {}
    for one in ledger.standings():
        table.setdefault(names.get(one.cell.recipe.id, "search"), Counter())[one.state] += 1
    return table


def _show_status(ledger: Ledger) -> None:
    from harness.ledger.pace import pace_of
    from harness.text import duration

    rows = [(arm, *(str(states[state] or "-") for state in _STATES)) for arm, states in _by_arm(ledger).items()]
    console.table(("arm", *_STATES), rows, right=_STATES)
    counts = ledger.counts()
    pace = pace_of(ledger.trials())
    speed = f", {pace:.3g} an hour lately" if pace else ""
    left = f", about {duration(counts.open / pace * 3600)} left" if pace and counts.running else ""
    console.say(f"{counts.final} of {counts.total} trials are final{speed}{left}")
    for one in ledger.standings():
        if one.state == "running":
            console.say(f"running: {one.cell.key} seed {one.cell.seed} on {one.worker} since {one.since}")


@app.command(rich_help_panel=CLUSTER)
def worker(
    *,
    study: StudyFolder,
    storage: Storage = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Work off share I of N in a journal of its own; default: SLURM's array.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps or xpu; default: the plan's.")] = "",
    timeout: Timeout = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Leave after so many trials.")] = None,
    json: Json = False,
) -> None:
    """Join a study that was planned elsewhere, and work on it until nothing is left."""
    from harness.ledger import parse_shard, shard_of_environment
    from harness.workers.join import join

    storage = storage_of(storage)
    share = parse_shard(shard) if shard else None if "://" in (storage or "") else shard_of_environment(os.environ)
    done = join(
        name=study,
        storage=storage,
        runs=Path("runs"),
        device=device,
        shard=share,
        deadline=None if timeout is None else time.monotonic() + timeout,
        max_trials=max_trials,
        on_event=_tell,
    )
    if json:
        console.data_json({"recorded": done.recorded, "failed": done.failed, "why": done.why})
    else:
        console.say(f"{done.recorded} trials recorded, {done.failed} of them failed; left because: {done.why}")
    if done.why == "stopped":
        raise typer.Exit(130)
    if done.failed:
        raise typer.Exit(1)


def _tell(event: object) -> None:
    from harness.workers.events import Finished, Note

    if isinstance(event, Finished):
        trial = event.trial
        accuracy = f"val {100 * trial.metrics['accuracy']:.1f} %" if "accuracy" in trial.metrics else trial.error
        console.say(f"{trial.cell} seed {trial.seed}: {trial.state}, {accuracy}")
    elif isinstance(event, Note):
        console.say(event.text)
