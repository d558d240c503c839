"""Runners without a net, and the small study that ledger, worker and launch are tested on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError, DivergedError
from harness.ledger import Claim, Ledger, Plan
from harness.study.cells import cells
from harness.study.study import Study, parse_study
from harness.study.trial import Cell, Curve, Outcomes, Trial
from harness.workers.join import join
from harness.workers.runner import OnEpoch

EPOCHS = 4


def study(seeds: int = 3, levels: int = 3, **changes: Any) -> Study:
    """A sweep of ``levels`` dropout rates, one of which is the baseline, over ``seeds`` seeds."""
    raw = {
        "question": "Does dropout help?",
        "margin_pp": 1.0,
        "seeds": seeds,
        "design": "sweep",
        "factors": [
            {
                "name": "dropout",
                "field": "model.dropout",
                "levels": [0.25 + 0.5 * i / levels for i in range(levels)],
            }
        ],
        "profiles": {"quick": {"seeds": seeds, "train.epochs": EPOCHS}},
        **changes,
    }
    return parse_study(raw, name="light").under("quick")


def cells_of(which: Study) -> tuple[Cell, ...]:
    return cells(which, "images")


def plan_of(which: Study, **changes: Any) -> Plan:
    given = {
        "study": which,
        "data_fingerprint": "images",
        "code_fingerprint": "",
        "threads": 1,
        "device": "cpu",
        "workers": 2,
        "data_root": "",
        "created": "2026-11-23T12:00:00",
        "beat_seconds": 0.2,
        "grace_seconds": 3.0,
    }
    return Plan(**{**given, **changes})


def planned(runs: Path, seeds: int = 3, levels: int = 3, **changes: Any) -> Ledger:
    """An open ledger in which the study is planned."""
    which = study(seeds, levels)
    ledger = Ledger.open(which.folder, runs=runs)
    ledger.plan(plan_of(which, **changes), cells_of(which))
    return ledger


def accuracy(cell: Cell) -> float:
    """What every runner here gets for a cell."""
    return 0.2 + int(cell.key, 16) % 997 / 1997


def trial_of(cell: Cell, **changes: Any) -> Trial:
    """A complete trial of a cell."""
    given = {
        "cell": cell.key,
        "seed": cell.seed,
        "recipe": cell.recipe,
        "state": "complete",
        "metrics": {"accuracy": accuracy(cell), "gap": 0.1},
        "epochs": EPOCHS,
        "curve": Curve(val_loss=(1.0,) * EPOCHS, val_accuracy=(accuracy(cell),) * EPOCHS),
    }
    return Trial(**{**given, **changes})


def outcomes() -> Outcomes:
    """Four validation and two test images, the first of each right."""
    right_N = np.array([True, False, False, True])
    return Outcomes(val_correct_N=right_N, test_correct_N=right_N[:2])


def complete(ledger: Ledger, claim: Claim) -> Trial | None:
    """Record a claim as complete."""
    return ledger.record(claim, trial_of(claim.cell), outcomes())


def run(
    cell: Cell, *, device: str, threads: int, on_epoch: OnEpoch, seconds: float = 0.02
) -> tuple[Trial, Outcomes | None]:
    """Sleep for ``seconds`` in all and return what ``accuracy`` says."""
    del device, threads
    for epoch in range(EPOCHS):
        time.sleep(seconds / EPOCHS)
        if on_epoch(epoch, {"val_accuracy": accuracy(cell), "val_loss": 1.0}):
            return trial_of(cell, state="pruned", metrics={}, epochs=epoch + 1), None
    return trial_of(cell), outcomes()


def slow(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """As ``run``, for a second."""
    return run(cell, **context, seconds=1.0)


def endless(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
    """One epoch that does not end."""
    while True:
        time.sleep(0.01)


def broken(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Raise on the odd seeds."""
    if cell.seed % 2:
        raise RuntimeError("the net has no layers")
    return run(cell, **context)


def hopeless(cell: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
    """Raise on every cell, each in words of its own."""
    raise RuntimeError(f"the net has no layers at seed {cell.seed}")


def hungry(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
    """Run out of memory, always."""
    raise MemoryError


def diverging(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
    """Diverge in the third epoch."""
    raise DivergedError(2, 17)


def without_data(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
    """Find no images."""
    raise DataError("the images are gone", "bring them back")


def suicidal(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Kill the worker on every cell that a file in the working folder does not yet name; name it first."""
    mark = Path(os.environ["LIGHT_MARKS"]) / cell.key
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run(cell, **context)


def lost_gpu(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Lose the GPU at the first attempt of each cell, as an assertion on the device does: each call raises after it."""
    import torch

    mark = Path(os.environ["LIGHT_MARKS"]) / cell.key
    if mark.exists():
        return run(cell, **context)
    mark.touch()

    def dead(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    torch.cuda.is_initialized = lambda: True
    torch.cuda.synchronize = dead  # type: ignore[assignment]
    dead()
    raise AssertionError


def doomed(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Kill the worker, always."""
    os.kill(os.getpid(), signal.SIGKILL)
    return run(cell, **context)


def third(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """As ``run``, for a third of a second."""
    return run(cell, **context, seconds=0.3)


def instant(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """As ``run``, without a pause."""
    return run(cell, **context, seconds=0.0)


def shard_task(name: str, runs: Path, index: int, total: int) -> None:
    """Be one task of a job array."""
    join(
        name=name,
        runs=runs,
        shard=(index, total),
        runner="tests.light:instant",
        on_event=lambda _: None,
    )
