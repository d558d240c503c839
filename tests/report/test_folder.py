"""The data files give back what was put in, and say what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.tuning_facts import TuningFacts
from harness.errors import ReportError
from harness.report import Material, Written, read_folder, write_material
from harness.report.material import in_order
from harness.study.trial import METRICS, Metric
from tests.report import planted

TRIALS = {
    "cell",
    "seed",
    "state",
    "accuracy",
    "train_accuracy",
    "online_accuracy",
    "test_accuracy",
    "gap",
    "nll",
    "train_seconds",
    "images_per_second",
    "recipe_id",
    "recipe",
    "data_fingerprint",
    "environment",
}
CURVES = {
    "cell",
    "seed",
    "epoch",
    "train_loss",
    "train_accuracy",
    "online_loss",
    "online_accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
}
EFFECTS = (
    "kind,term,reference,metric,unit,n,mean,sd,estimate,low,high,p,p_holm,p_equivalence,verdict,seed_correlation,failed,pruned,"
    "params_m,mflop_per_image,train_seconds"
)


def test_trials_come_back_field_by_field(material: Material, written: Written) -> None:
    assert read_folder(written.folder).trials == in_order(material.trials)


def test_curves_come_back_exactly(material: Material, written: Written) -> None:
    assert dict(read_folder(written.folder).curves) == dict(material.curves)


def test_per_image_outcomes_come_back_bit_by_bit(material: Material, written: Written) -> None:
    back = read_folder(written.folder).outcomes
    assert set(back) == set(material.outcomes)
    for key, outcome in material.outcomes.items():
        for name in ("val_correct_N", "test_correct_N"):
            np.testing.assert_array_equal(getattr(back[key], name), getattr(outcome, name))


def test_outcomes_are_read_where_an_earlier_version_kept_the_losses_of_the_images_too(
    material: Material, written: Written, tmp_path: Path
) -> None:
    for file in ("study.toml", "trials.parquet"):
        (tmp_path / file).write_bytes((written.folder / file).read_bytes())
    with np.load(written.folder / "images.npz") as stored:
        losses = np.linspace(0, 3, int(stored["test_size"].sum()), dtype=np.float16)
        np.savez_compressed(tmp_path / "images.npz", **stored, test_loss=losses)
    back = read_folder(tmp_path).outcomes
    for key, outcome in material.outcomes.items():
        np.testing.assert_array_equal(back[key].test_correct_N, outcome.test_correct_N)


def test_the_file_of_outcomes_holds_packed_bits_and_no_losses(written: Written) -> None:
    with np.load(written.folder / "images.npz") as stored:
        assert not [name for name in stored if name.endswith("_loss")]
        assert stored["val_correct"].size == ((stored["val_size"] + 7) // 8).sum()


def test_labels_classes_study_and_provenance_come_back(
    material: Material, written: Written
) -> None:
    back = read_folder(written.folder)
    assert back.labels_N is not None
    np.testing.assert_array_equal(back.labels_N, material.labels_N)
    assert (back.classes, back.study, back.provenance) == (
        material.classes,
        material.study,
        material.provenance,
    )


def test_sample_images_come_back_as_rgb(material: Material, written: Written) -> None:
    back = read_folder(written.folder).samples
    assert list(back) == list(material.samples)
    for name, images_KHWC in material.samples.items():
        np.testing.assert_array_equal(back[name], np.repeat(images_KHWC, 3, axis=3))


def test_attempts_and_the_plan_come_back(tmp_path: Path) -> None:
    material = planted.one_arm(2)
    early = material.trials[0].model_copy(
        update={
            "state": "failed",
            "metrics": {},
            "error": "out of memory",
            "cause": "infrastructure",
        }
    )
    again = material.trials[0].model_copy(
        update={
            "attempt": 2,
            "tuned": {"optimizer.weight_decay": 0.01},
            "readings": {"start_seconds": 0.1},
        }
    )
    metric = Metric("mine.py:score", "1", higher_is_better=False, label="score")
    material = dataclasses.replace(
        material,
        trials=(again, *material.trials[1:]),
        attempts=(early,),
        incomplete=True,
        changed=("margin_pp",),
        metrics={metric.name: metric},
        screening=True,
    )
    write_material(tmp_path / "r", material, provisional=True)
    back = read_folder(tmp_path / "r")
    assert back.attempts == (early,)
    assert back.trials == in_order(material.trials)
    assert (back.incomplete, back.changed, back.screening, dict(back.metrics)) == (
        True,
        ("margin_pp",),
        True,
        {metric.name: metric},
    )


def test_a_metric_of_the_users_own_comes_back_under_its_name(tmp_path: Path) -> None:
    material = planted.one_arm(2)
    trials = tuple(
        t.model_copy(update={"metrics": {**t.metrics, "mine.py:score": 3.5}})
        for t in material.trials
    )
    write_material(tmp_path / "r", dataclasses.replace(material, trials=trials), provisional=True)
    assert all(
        trial.metrics["mine.py:score"] == 3.5 for trial in read_folder(tmp_path / "r").trials
    )


def test_a_tune_comes_back(tmp_path: Path) -> None:
    facts = TuningFacts(metric="accuracy", budget=3, best={"model.dropout": 0.1}, best_value=0.8)
    write_material(
        tmp_path / "r", dataclasses.replace(planted.one_arm(2), tuning=facts), provisional=True
    )
    assert read_folder(tmp_path / "r").tuning == facts


@pytest.mark.parametrize(
    ("name", "columns"), [("trials.parquet", TRIALS), ("curves.parquet", CURVES)]
)
def test_parquet_tables_have_the_promised_columns(
    written: Written, name: str, columns: set[str]
) -> None:
    assert columns <= set(pd.read_parquet(written.folder / name).columns)


def test_effects_csv_has_exactly_the_promised_columns(written: Written) -> None:
    with (written.folder / "effects.csv").open(encoding="utf-8") as file:
        assert next(file).strip() == EFFECTS


def test_effects_csv_holds_the_baseline_without_an_estimate(written: Written) -> None:
    table = pd.read_csv(written.folder / "effects.csv", keep_default_na=False)
    row = table[(table.term == "reference") & (table.metric == "accuracy")].iloc[0]
    assert row.estimate == ""
    assert 70 < float(row["mean"]) < 85


def test_arms_csv_joins_arms_to_recipes(material: Material, written: Written) -> None:
    table = pd.read_csv(written.folder / "arms.csv", keep_default_na=False)
    assert list(table.columns) == ["arm", "recipe_id"]
    assert set(table.recipe_id) == {trial.recipe_id for trial in material.trials}


def test_accuracies_in_the_files_are_shares(written: Written) -> None:
    table = pd.read_parquet(written.folder / "trials.parquet")
    assert table[["accuracy", "train_accuracy", "gap"]].max().max() <= 1.0
    assert METRICS["accuracy"].unit == "pp"


def test_a_folder_without_trials_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no study\.toml and no trials\.parquet") as caught:
        read_folder(tmp_path)
    assert "harness report" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    ["trials.parquet", "curves.parquet", "images.npz", "samples.png", "study.toml", "tuning.json"],
)
def test_a_damaged_file_is_named(written: Written, tmp_path: Path, name: str) -> None:
    for file in ("study.toml", "trials.parquet"):
        (tmp_path / file).write_bytes((written.folder / file).read_bytes())
    (tmp_path / name).write_bytes(b"\x00 not what it was")
    with pytest.raises(ReportError, match=name.replace(".", r"\.")):
        read_folder(tmp_path)
