"""Histories with gaps: what an epoch lacks is absent, and only what stopped being a number is broken."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from harness.analysis.diagnosis import diagnose
from harness.analysis.epoch_history import read_history

NAN = math.nan
EPOCHS = 12
# lowest after epoch 8
LOSS = [2.0 - 0.1 * e if e < 8 else 1.2 + 0.2 * (e - 7) for e in range(EPOCHS)]
ACC = [0.3 + 0.05 * e for e in range(EPOCHS)]
TRAIN = [0.32 + 0.055 * e for e in range(EPOCHS)]

Rows = list[dict[str, Any]]


def full() -> Rows:
    return [
        {"epoch": e, "train_accuracy": TRAIN[e], "val_loss": LOSS[e], "val_accuracy": ACC[e]}
        for e in range(EPOCHS)
    ]


def second(rows: Rows, filler: Any) -> Rows:
    """Keep validation figures of every second epoch."""
    kept = []
    for i, row in enumerate(rows):
        blank = {key: filler for key in row if key.startswith("val") and i % 2 == 0}
        kept.append({key: value for key, value in {**row, **blank}.items() if value is not ...})
    return kept


def phases() -> Rows:
    rows: Rows = []
    for e in range(EPOCHS):
        rows.append({"epoch": e, "phase": "train", "accuracy": TRAIN[e]})
        rows.append({"epoch": e, "phase": "valid", "loss": LOSS[e], "accuracy": ACC[e]})
    return rows


def apart(*, epoch: bool, filler: Any = ...) -> Rows:
    """Rows of one phase each, told apart by their keys alone."""
    rows: Rows = []
    for row in full():
        val = {key: value for key, value in row.items() if key.startswith("val")}
        train = {"train_accuracy": row["train_accuracy"]}
        for mine, other in ((train, val), (val, train)):
            whole = {"epoch": row["epoch"], **mine, **dict.fromkeys(other, filler)}
            rows.append(
                {k: v for k, v in whole.items() if v is not ... and (epoch or k != "epoch")}
            )
    return rows


WHOLE: dict[str, Any] = {
    "full": full(),
    "no number of the epoch": [{k: v for k, v in row.items() if k != "epoch"} for row in full()],
    "epochs from 1": [{**row, "epoch": row["epoch"] + 1} for row in full()],
    "rows of a phase": phases(),
    "a table of phases": pd.DataFrame(phases()),
    "phases by their keys": apart(epoch=True),
    "phases by their keys, without epochs": apart(epoch=False),
    "a table of phases by their keys": pd.DataFrame(apart(epoch=True)),
    "a table of phases by their keys, without epochs": pd.DataFrame(apart(epoch=False)),
    "a summary at the end": [*full(), {"best_epoch": 7, "test_accuracy": 0.7}],
    "a summary under our names": [*full(), {"val_accuracy": 0.9, "note": "best"}],
    "a summary in a table": pd.DataFrame([*full(), {"test_accuracy": 0.7}]),
    "other names": [
        {"Epoch": e, "train/acc": TRAIN[e], "eval/loss": LOSS[e], "Val.Acc": ACC[e]}
        for e in range(EPOCHS)
    ],
    "fractions of epochs": [
        row
        for e in range(EPOCHS)
        for row in (
            {"epoch": e + 0.5, "step": 10 * e + 5, "loss": 1.0},
            {
                "epoch": e + 1.0,
                "step": 10 * e + 10,
                "train_accuracy": TRAIN[e],
                "eval_loss": LOSS[e],
                "eval_accuracy": ACC[e],
            },
        )
    ]
    + [{"epoch": EPOCHS, "train_loss": 0.9, "train_runtime": 31.0}],
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_history_says_the_same_however_it_is_laid_out(name: str) -> None:
    got = diagnose(WHOLE[name])
    assert (got.epochs, got.onset_epoch, got.best_epoch, got.kind) == (
        EPOCHS,
        8,
        EPOCHS,
        "overfits",
    )
    assert got.gap_pp == pytest.approx(100 * (TRAIN[-1] - ACC[-1]))


GAPS: dict[str, Any] = {
    "no key": second(full(), ...),
    "None": second(full(), None),
    "nan": second(full(), NAN),
    "a table": pd.DataFrame(second(full(), ...)),
    "columns": {key: [row.get(key) for row in second(full(), None)] for key in full()[0]},
    "an empty last epoch": [*second(full(), ...), {"epoch": EPOCHS, "train_accuracy": 0.95}][:-1],
}


@pytest.mark.parametrize("name", GAPS)
def test_validation_every_second_epoch_is_no_broken_training(name: str) -> None:
    got = diagnose(GAPS[name])
    assert (got.epochs, got.onset_epoch, got.best_epoch, got.kind) == (
        EPOCHS,
        8,
        EPOCHS,
        "overfits",
    )
    assert got.gap_pp == pytest.approx(100 * (TRAIN[-1] - ACC[-1]))


@pytest.mark.parametrize("filler", [..., None, NAN], ids=["no key", "None", "nan"])
@pytest.mark.parametrize("table", [False, True])
def test_a_last_epoch_without_validation_is_no_broken_training(filler: Any, table: bool) -> None:
    rows = second(full(), filler)[:-1]  # ends on an epoch without validation
    got = diagnose(pd.DataFrame(rows) if table else rows)
    assert (got.epochs, got.kind) == (EPOCHS - 1, "overfits")
    assert got.gap_pp == pytest.approx(100 * (TRAIN[-3] - ACC[-3]))


BROKEN: dict[str, Rows] = {
    "at the end": [*full()[:-1], {**full()[-1], "val_loss": NAN}],
    "from the middle on": [*full()[:6], *({**row, "val_loss": NAN} for row in full()[6:])],
    "everything": [
        *full()[:-2],
        *({key: NAN if key != "epoch" else row[key] for key in row} for row in full()[-2:]),
    ],
    "infinite": [*full()[:-1], {**full()[-1], "val_loss": math.inf}],
    "from the start": [{**row, "val_loss": NAN} for row in full()],
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("table", [False, True])
def test_a_loss_that_stopped_being_a_number_is_broken(name: str, table: bool) -> None:
    assert diagnose(pd.DataFrame(BROKEN[name]) if table else BROKEN[name]).kind == "broken"


@pytest.mark.parametrize("step", ["step", "iteration", "global_step", "trainer/global_step"])
@pytest.mark.parametrize("together", [True, False])
def test_a_log_of_steps_counts_evaluations_and_no_epochs(step: str, together: bool) -> None:
    rows: Rows = []
    for e in range(EPOCHS):
        rows += [{step: 100 * e + 20 * i, "train_loss": 2.0 - 0.1 * e} for i in range(5)]
        val = {"val_loss": LOSS[e], "val_accuracy": ACC[e]}
        rows += (
            [{step: 100 * e + 99, **val}]
            if together
            else [{step: 100 * e + 99, key: val[key]} for key in val]
        )
    got = diagnose(rows)
    assert (got.epochs, got.onset_epoch, got.kind) == (EPOCHS, 8, "overfits")
    assert "12 evaluations" in got.sentence
    assert "turns up after evaluation 8" in got.sentence
    assert "epoch" not in got.sentence


def test_what_is_logged_often_within_an_epoch_counts_by_its_mean() -> None:
    rows = [{"epoch": e, "train_loss": loss} for e in range(2) for loss in (1.0, 2.0)]
    rows += [{"epoch": e, "val_loss": 1.0} for e in range(2)]
    assert read_history(rows).train_loss == (1.5, 1.5)


def test_a_column_has_a_number_for_every_epoch_and_nan_where_there_is_none() -> None:
    column = read_history([{"epoch": 2, "val_loss": 1.0}, {"epoch": 4, "val_loss": 0.5}]).column(
        "val_loss"
    )
    assert [None if math.isnan(value) else value for value in column] == [None, 1.0, None, 0.5]
