"""``harness status``: parse, call, print."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import console
from harness.cli.defaults import storage_of
from harness.cli.options import CLUSTER, Storage, StudyFolder, app

if TYPE_CHECKING:
    from harness.ledger import Ledger

_STATES = ("waiting", "running", "complete", "pruned", "diverged", "failed")


@app.command(rich_help_panel=CLUSTER)
def status(
    *,
    study: StudyFolder,
    storage: Storage = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds until all is final.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the result as JSON on stdout; with --watch, a document a line."
        ),
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
    names = (
        {arm.recipe.id: arm.name for arm in arms(plan.study)}
        if plan is not None and not plan.study.space
        else {}
    )
    table: dict[str, Counter[str]] = {}
    for one in ledger.standings():
        table.setdefault(names.get(one.cell.recipe.id, "search"), Counter())[one.state] += 1
    return table


def _show_status(ledger: Ledger) -> None:
    from harness.ledger.pace import pace_of
    from harness.text import duration

    rows = [
        (arm, *(str(states[state] or "-") for state in _STATES))
        for arm, states in _by_arm(ledger).items()
    ]
    console.table(("arm", *_STATES), rows, right=_STATES)
    counts = ledger.counts()
    pace = pace_of(ledger.trials())
    speed = f", {pace:.3g} an hour lately" if pace else ""
    left = f", about {duration(counts.open / pace * 3600)} left" if pace and counts.running else ""
    console.say(f"{counts.final} of {counts.total} trials are final{speed}{left}")
    for one in ledger.standings():
        if one.state == "running":
            console.say(
                f"running: {one.cell.key} seed {one.cell.seed} on {one.worker} since {one.since}"
            )
