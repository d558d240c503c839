"""A study that decides by a function of the user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

METRIC = """
import numpy as np

def worst_class(probabilities, labels):
    right = probabilities.argmax(axis=1) == labels
    return min(right[labels == k].mean() for k in np.unique(labels))

worst_class.unit = "pp"
"""

STUDY = """
schema = 1
question = "Does crop help the class that does worst?"
design = "arms"
metric = "own.py:worst_class"
seeds = 3
margin_pp = 5.0
arms = [{ name = "no-crop", set = { "augment.crop" = 0 } }]

[profiles.quick]
seeds = 3
train.epochs = 5
train.batch_size = 25
data.train = 200
data.val = 200
"""


def test_its_values_its_gap_and_its_effect_are_in_the_tables_and_editing_it_makes_new_cells(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(METRIC, encoding="utf-8")
    (tmp_path / "worst.toml").write_text(STUDY, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "worst.toml",
        "--profile",
        "quick",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    effects: Any = pd.read_csv(tmp_path / "reports" / "worst-quick" / "effects.csv").set_index(
        ["term", "metric"]
    )
    row = effects.loc[("no-crop", "own.py:worst_class")]
    assert row["unit"] == "pp"
    assert row["n"] == 3
    assert ("no-crop", "own.py:worst_class_gap") in effects.index
    (tmp_path / "own.py").write_text(METRIC + "# edited\n", encoding="utf-8")
    again = subprocess.run(
        [*command, "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "6 trials\n" in again.stderr
