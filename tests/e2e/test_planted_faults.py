"""Faults planted in a real study, each of which the checks must name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.analysis import Analysis, analyze
from harness.report import Material, read_folder

STUDY = """
schema = 1
question = "Which of these faults is seen?"
design = "arms"
seeds = 4
margin_pp = 5.0

[[arms]]
name = "no-flip"
set = { "augment.flip" = "none" }

[[arms]]
name = "saturation"
set = { "augment.saturation" = 0.4 }
why = "the bundled images are grey, so that this changes nothing"

[profiles.quick]
seeds = 4
train.epochs = 6
train.batch_size = 25
data.train = 200
data.val = 100
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Run the study for real."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "faults.toml").write_text(STUDY, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "faults.toml",
        "--profile",
        "quick",
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return read_folder(Path(folder) / "reports" / "faults-quick")


def analysis(material: Material, trials: list) -> Analysis:  # type: ignore[type-arg]
    return analyze(
        material.study,
        trials,
        curves=material.curves,
        outcomes=material.outcomes,
        labels=material.labels_N,
    )


def alarms(found: Analysis) -> str:
    return " ".join(f"{check.name}: {check.what}" for check in found.checks if check.level != "ok")


def test_an_arm_that_did_nothing_is_named_and_not_judged(material: Material) -> None:
    found = analysis(material, list(material.trials))
    assert "saturation" in alarms(found)
    assert next(effect for effect in found.effects if effect.term == "saturation").verdict == ""


def test_a_diverged_seed_makes_its_arm_unstable(material: Material) -> None:
    bare = next(
        arm.recipe_id
        for arm in analysis(material, list(material.trials)).arms
        if arm.name == "no-flip"
    )
    trials = [
        trial.model_copy(update={"state": "diverged", "metrics": {}})
        if trial.recipe_id == bare and trial.seed == 1
        else trial
        for trial in material.trials
    ]
    found = analysis(material, trials)
    effect = next(
        effect
        for effect in found.effects
        if effect.term == "no-flip" and effect.metric == "accuracy"
    )
    assert "unstable (1 of 4)" in effect.note
    assert effect.verdict == ""
    assert "no-flip" in alarms(found)


def test_a_deleted_trial_is_missed(material: Material) -> None:
    whole = analysis(material, list(material.trials))
    bare = next(arm.recipe_id for arm in whole.arms if arm.name == "no-flip")
    found = analysis(
        material, [trial for trial in material.trials if (trial.recipe_id, trial.seed) != (bare, 1)]
    )
    assert "missing" not in alarms(whole)
    assert "missing" in alarms(found)
    assert "no-flip" in alarms(found)


def test_two_data_fingerprints_are_told_apart(material: Material) -> None:
    trials = [
        trial.model_copy(update={"data_fingerprint": "0" * 16}) if trial.seed == 2 else trial
        for trial in material.trials
    ]
    assert "fingerprint" in alarms(analysis(material, trials))
