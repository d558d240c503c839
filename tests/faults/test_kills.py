"""Killed workers: whoever is killed, every cell is run, and recorded once.

The killer takes a random worker of those that run, every two seconds, until the plan is done: 200
cells of 0.3 s, 4 workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from pathlib import Path
from typing import Self

import pytest

from harness.ledger import Ledger
from harness.study.trial import Trial
from harness.workers.events import Event, WorkerDied
from harness.workers.local import run_local
from tests import light

SEEDS, LEVELS, WORKERS = 20, 10, 4


class Killer:
    """Kills a random worker every ``seconds`` until told to stop."""

    def __init__(self, name: str, storage: str | None, runs: Path, seconds: float) -> None:
        self.killed = 0
        self._where, self._seconds = (name, storage, runs), seconds
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        name, storage, runs = self._where
        with Ledger.open(name, storage=storage, runs=runs, create=False) as ledger:
            while not self._stop.wait(self._seconds):
                rows = [
                    row
                    for row in ledger._book.rows()
                    if row.state.name == "RUNNING" and "lease" in row.user_attrs
                ]
                if not rows:
                    continue
                # the one it was on may have gone since the rows were read
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._random.choice(rows).user_attrs["lease"]["pid"], signal.SIGKILL)
                    self.killed += 1


def plain(trials: list[Trial]) -> list[str]:
    """Trials without what may differ between two runs: when, where, by whom and at which attempt."""
    own = {"environment", "started", "worker", "attempt"}
    return [
        json.dumps(trial.model_dump(mode="json", exclude=own), sort_keys=True) for trial in trials
    ]


def undisturbed(runs: Path) -> list[str]:
    light.planned(runs, SEEDS, LEVELS).close()
    name = light.study(SEEDS, LEVELS).folder
    run_local(
        name=name,
        runs=runs,
        workers=2,
        threads=1,
        runner=f"{light.__file__}:run",
        on_event=lambda _: None,
    )
    with Ledger.open(name, runs=runs, create=False) as ledger:
        return plain(ledger.trials())


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_with_a_worker_killed_every_two_seconds_every_cell_completes_once_and_with_the_same_result(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    storage = request.getfixturevalue("database") if kind == "postgresql" else None
    which = light.study(SEEDS, LEVELS)
    with Ledger.open(which.folder, storage=storage, runs=tmp_path / "disturbed") as ledger:
        ledger.plan(light.plan_of(which, retries=10), light.cells_of(which))
    events: list[Event] = []
    died = 0
    with Killer(which.folder, storage, tmp_path / "disturbed", 2.0) as killer:
        # each leaves some cells done; where a start of the workers takes as long as they live, few
        for _ in range(40):
            result = run_local(
                name=which.folder,
                storage=storage,
                runs=tmp_path / "disturbed",
                workers=WORKERS,
                threads=1,
                runner=f"{light.__file__}:third",
                on_event=events.append,
            )
            died += result.died
            if not result.open:
                break
            # On a busy machine all four may be killed three times in a row before they finish
            # anything: the run then ends and says so, and the same command goes on. An end for any
            # other reason is a fault.
            assert "died 3 times in a row" in str(result.error)
    with Ledger.open(
        which.folder, storage=storage, runs=tmp_path / "disturbed", create=False
    ) as ledger:
        complete = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
        trials = plain(ledger.trials())
        assert all(len(ledger.artifact(trial)[0]) == light.EPOCHS for trial in ledger.trials())
    assert (
        len(complete)
        == len(set(complete))
        == len(ledger_cells := light.cells_of(which))
        == len(trials)
    )
    assert {cell.key for cell in ledger_cells} == set(complete)
    assert killer.killed >= 5
    assert (
        died == len([event for event in events if isinstance(event, WorkerDied)]) <= killer.killed
    )
    assert trials == undisturbed(tmp_path / "undisturbed")
