"""What one epoch history says: gap, onset, a sentence, the study to run next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.diagnosis import SMALL_GAP_PP, diagnose
from harness.analysis.epoch_history import history_frame, read_history
from harness.errors import UsageError
from harness.stats import onset_epoch
from harness.study.files import available_studies

EPOCHS = 20


def history(
    train: float = 0.99, val: float = 0.90, *, bottom: int = EPOCHS, fall: float = 0.05
) -> list[dict[str, float]]:
    """Accuracies that end at ``train`` and ``val``; validation loss falls up to an epoch and rises after it."""
    return [
        {
            "train_loss": 1.0 - 0.04 * epoch,
            "train_accuracy": train * (epoch + 1) / EPOCHS,
            "val_loss": 2.0 - fall * min(epoch, bottom) + 0.05 * max(0, epoch - bottom),
            "val_accuracy": val * (epoch + 1) / EPOCHS,
        }
        for epoch in range(EPOCHS)
    ]


def test_the_gap_is_train_minus_validation_accuracy_after_the_last_epoch() -> None:
    assert diagnose(history()).gap_pp == pytest.approx(9.0)


def test_the_loss_gap_is_validation_minus_train_loss_after_the_last_epoch() -> None:
    last = history()[-1]
    assert diagnose(history()).loss_gap == pytest.approx(last["val_loss"] - last["train_loss"])


def test_the_onset_is_that_of_the_statistics_counted_from_one() -> None:
    curve = history(bottom=8)
    zero_based = onset_epoch([epoch["val_loss"] for epoch in curve])
    assert zero_based is not None
    assert diagnose(curve).onset_epoch == zero_based + 1


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (history(), "overfits"),
        (history(val=0.985, bottom=8), "overfits"),
        (history(train=0.6, val=0.595, fall=0.0), "underfits"),
        (history(train=0.6, val=0.595), "unfinished"),
        (history(train=0.99, val=0.985, fall=0.0), "fits"),
        ([*history()[:-1], {**history()[-1], "val_loss": math.nan}], "broken"),
    ],
)
def test_each_kind_of_curve_is_told_apart_and_leads_to_a_study_that_is_there(
    given: list[Any], kind: str
) -> None:
    found = diagnose(given)
    assert found.kind == kind
    assert found.study in available_studies()
    assert found.command == f"harness ablate --study {found.study}"


def test_a_gap_below_the_threshold_is_no_overfitting() -> None:
    assert (
        diagnose(history(train=0.99, val=0.99 - (SMALL_GAP_PP - 0.1) / 100, fall=0.0)).kind
        == "fits"
    )


def test_the_sentence_says_what_was_found() -> None:
    told = diagnose(history(bottom=8)).sentence
    assert "After 20 epochs the gap is 9.0 pp (99.0 % train, 90.0 % validation)" in told
    assert "turns up after epoch 9" in told


def test_percent_and_shares_give_the_same_diagnosis() -> None:
    percent = [
        {**e, "train_accuracy": 100 * e["train_accuracy"], "val_accuracy": 100 * e["val_accuracy"]}
        for e in history()
    ]
    assert diagnose(percent).gap_pp == pytest.approx(diagnose(history()).gap_pp)


def test_columns_of_keras_are_understood_and_the_gap_is_called_a_lower_bound() -> None:
    columns = {
        "loss": [1.0, 0.5, 0.2],
        "accuracy": [0.5, 0.8, 0.95],
        "val_loss": [1.1, 0.8, 0.9],
        "val_accuracy": [0.5, 0.7, 0.75],
    }
    assert "the clean gap is larger" in diagnose(columns).sentence


def test_a_table_of_pandas_is_a_history() -> None:
    assert diagnose(pd.DataFrame(history())) == diagnose(history())


def test_a_key_map_names_keys_that_nobody_could_guess() -> None:
    renamed = [{"top1": e["val_accuracy"], "fit": e["train_accuracy"]} for e in history()]
    assert diagnose(
        renamed, keys={"val_accuracy": "top1", "train_accuracy": "fit"}
    ).gap_pp == pytest.approx(9.0)


def test_clean_figures_come_before_those_seen_during_training() -> None:
    both = [{**e, "online_accuracy": 0.1} for e in history()]
    assert read_history(both).keys == read_history(history()).keys


def test_the_loop_without_clean_figures_falls_back_on_those_of_training() -> None:
    without = [{**e, "train_accuracy": None, "online_accuracy": 0.95} for e in history()]
    read = read_history(without)
    assert (read.train_accuracy[-1], read.clean) == (0.95, False)


@pytest.mark.parametrize(
    ("given", "keys", "words"),
    [
        ([], None, "no epoch"),
        ([{"top1": 0.5}], None, "names a validation loss or accuracy"),
        ([{"val_acc": 0.5}], {"val_accuracy": "val_ac"}, "did you mean 'val_acc'"),
        ([{"val_acc": 0.5}], {"val_acuracy": "val_acc"}, "did you mean 'val_accuracy'"),
        ([{"val_acc": "good"}], None, "one number an epoch"),
        ([{"val_acc": -3.0}], None, "no accuracy"),
        ({"val_acc": [1, 2], "val_loss": [1]}, None, "differ in length"),
        ([0.1, 0.2], None, "one dictionary an epoch"),
    ],
)
def test_a_history_that_cannot_be_read_says_why(given: Any, keys: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        diagnose(given, keys)
    assert caught.value.hint


def test_a_frame_has_a_row_an_epoch_and_no_columns_of_lists() -> None:
    frame = history_frame([{**e, "lrs": [0.1, 0.2]} for e in history()])
    assert list(frame.columns) == ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert len(frame) == EPOCHS


TABLES = Path(__file__).parent.parent / "data" / "tables"


def test_figures_that_keras_took_every_second_epoch_are_of_those_epochs() -> None:
    found = diagnose(
        {
            "loss": [1, 0.8, 0.6, 0.5, 0.4, 0.3],
            "accuracy": [0.5, 0.6, 0.7, 0.8, 0.85, 0.9],
            "val_loss": [0.9, 0.7, 0.8],
            "val_accuracy": [0.55, 0.7, 0.68],
        }
    )
    assert (found.epochs, found.best_epoch) == (6, 4)
    assert "After 6 epochs the gap is 22.0 pp" in found.sentence


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "hf/full/seed-0/checkpoint-200/trainer_state.json",
            "After 2 epochs validation loss is 0.300 above",
        ),
        ("lightning_logs/version_0/metrics.csv", "After 3 epochs validation loss is 0.075 below"),
        ("keras/ema_seed0.csv", "After 3 epochs the gap is 1.0 pp"),
    ],
)
def test_the_file_of_a_run_is_read(file: str, words: str) -> None:
    assert words in diagnose(TABLES / file).sentence


def test_a_folder_of_several_runs_is_refused() -> None:
    with pytest.raises(UsageError, match="holds several runs"):
        diagnose(str(TABLES / "keras"))


def test_one_epoch_says_nothing_of_a_loss_that_turns() -> None:
    told = diagnose([{"train_acc": 0.9, "val_acc": 0.8, "val_loss": 0.5}]).sentence
    assert "After 1 epoch the gap is 10.0 pp" in told
    assert "turn" not in told


def test_a_summary_at_the_end_of_a_trainers_log_is_no_epoch() -> None:
    log = [
        {"epoch": 1.0, "loss": 0.5, "step": 100},
        {"epoch": 1.0, "eval_loss": 0.40, "step": 100},
        {"epoch": 2.0, "loss": 0.3, "step": 200},
        {"epoch": 2.0, "eval_loss": 0.45, "step": 200},
        {"epoch": 2.0, "step": 200, "total_flos": 1e15, "train_loss": 0.4, "train_runtime": 9.0},
    ]
    assert "After 2 epochs validation loss is 0.150 above" in diagnose(log).sentence


def test_99_65_percent_keeps_its_digits() -> None:
    told = diagnose([{"train_acc": 0.9995, "val_acc": 0.9965}] * 3).sentence
    assert "the gap is 0.30 pp (99.95 % train, 99.65 % validation)" in told
