"""Event files: what an epoch's entry becomes, and one run a trial of the engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.study.recipe import Recipe
from harness.study.trial import Cell
from harness.train.check import check
from harness.train.run import run
from harness.train.tensorboard import TensorBoardLog

SMALL = Recipe().with_overrides(
    {
        "data.name": "digits",
        "data.train": 50,
        "data.val": 50,
        "model.blocks": 1,
        "model.width": 0.1,
        "train.epochs": 2,
        "train.batch_size": 25,
    }
)
needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


@needs_tensorboard
def test_every_number_of_an_entry_is_a_scalar_of_its_epoch(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path / "run")
    for epoch in range(3):
        log({"epoch": epoch, "val_accuracy": 0.25 * epoch, "lrs": [0.1], "note": "x"})
    log.close()
    assert scalars(tmp_path / "run") == {"val_accuracy": [(0, 0.0), (1, 0.25), (2, 0.5)]}


@needs_tensorboard
def test_a_trial_writes_a_run_of_its_own_where_the_environment_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_TENSORBOARD", str(tmp_path / "events"))
    cell = Cell.of(SMALL, 3, "images")
    trial, _ = run(cell)
    found = scalars(tmp_path / "events" / SMALL.id / "seed-3")
    assert [value for _, value in found["val_accuracy"]] == pytest.approx(trial.curve.val_accuracy)


def test_without_tensorboard_a_study_that_asks_for_it_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_TENSORBOARD", str(tmp_path / "events"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError) as caught:
        check(SMALL)
    assert caught.value.hint == "pip install 'harness[tensorboard]'"
