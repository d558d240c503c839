"""Finished trials of reports: which of them are offered to a plan that wants their cells."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.tuning_facts import TuningFacts
from harness.report import Material, find_reported, write_material
from harness.study.trial import Cell
from tests.report import planted

MATERIAL = planted.one_arm(3)


def wanted(material: Material = MATERIAL) -> list[Cell]:
    return [Cell(recipe=trial.recipe, seed=trial.seed, key=trial.cell) for trial in material.trials]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One report, of one arm at three seeds."""
    folder = tmp_path_factory.mktemp("adopt") / "reports"
    write_material(folder / "mine", MATERIAL, provisional=True)
    return folder


@pytest.fixture
def copied(reports: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reports, tmp_path / "reports"))


def rewritten(folder: Path, material: Material) -> list[str]:
    """The cells that are offered once the report is of other material."""
    write_material(folder / "mine", material, provisional=True)
    return [trial.cell for trial, _, _ in find_reported(wanted(), folder)]


def test_a_finished_trial_comes_with_its_curve_and_the_folder_that_held_it(reports: Path) -> None:
    (trial, curve, _), *_ = found = find_reported(wanted(), reports)
    assert len(found) == 3
    assert trial == MATERIAL.trials[0].model_copy(update={"adopted": "reports/mine"})
    assert curve == MATERIAL.curves[trial.cell]


def test_a_finished_trial_comes_with_its_per_image_outcomes(
    material: Material, tmp_path: Path
) -> None:
    write_material(tmp_path / "whole", material, provisional=True)
    for trial, _, outcomes in find_reported(wanted(material)[:2], tmp_path):
        assert outcomes is not None
        np.testing.assert_array_equal(
            outcomes.val_correct_N, material.outcomes[trial.cell].val_correct_N
        )
        np.testing.assert_array_equal(
            outcomes.test_correct_N, material.outcomes[trial.cell].test_correct_N
        )


def test_a_cell_of_another_engine_or_other_images_is_not_found(reports: Path) -> None:
    assert (
        find_reported([Cell.of(one.recipe, one.seed, "other images") for one in wanted()], reports)
        == []
    )


def test_a_trial_whose_recipe_is_not_that_of_its_key_is_not_offered(copied: Path) -> None:
    other = MATERIAL.trials[0].recipe.with_overrides({"model.dropout": 0.9})
    first = MATERIAL.trials[0].model_copy(update={"recipe": other})
    changed = dataclasses.replace(MATERIAL, trials=(first, *MATERIAL.trials[1:]))
    assert rewritten(copied, changed) == [cell.key for cell in wanted()[1:]]


@pytest.mark.parametrize("state", ["failed", "pruned"])
def test_a_trial_that_did_not_end_by_itself_is_not_offered(copied: Path, state: str) -> None:
    first = MATERIAL.trials[0].model_copy(update={"state": state, "metrics": {}})
    changed = dataclasses.replace(MATERIAL, trials=(first, *MATERIAL.trials[1:]))
    assert rewritten(copied, changed) == [cell.key for cell in wanted()[1:]]


def test_nothing_is_offered_from_the_report_of_a_search(copied: Path) -> None:
    searched = dataclasses.replace(MATERIAL, tuning=TuningFacts(metric="accuracy", budget=3))
    assert rewritten(copied, searched) == []


def test_nothing_is_offered_from_the_report_of_a_table_of_runs(copied: Path) -> None:
    table = MATERIAL.study.model_copy(update={"base": {}, "table": "runs.csv", "profile": ""})
    assert rewritten(copied, dataclasses.replace(MATERIAL, study=table)) == []


def test_a_trial_whose_curve_is_gone_is_not_offered(copied: Path) -> None:
    (copied / "mine" / "curves.parquet").unlink()
    assert find_reported(wanted(), copied) == []


def test_a_report_that_cannot_be_read_is_passed_over(copied: Path) -> None:
    shutil.copytree(copied / "mine", copied / "damaged")
    (copied / "damaged" / "study.toml").write_text("not a study", encoding="utf-8")
    (copied / "bytes").mkdir()
    (copied / "bytes" / "trials.parquet").write_bytes(b"nothing")
    assert {trial.adopted for trial, _, _ in find_reported(wanted(), copied)} == {"reports/mine"}
