"""A study of eight cells, and the program as a user runs it on a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

HARNESS = [sys.executable, "-m", "harness"]
ABLATE = [*HARNESS, "ablate", "--study", "tiny.toml", "--profile", "quick"]
SEEDS = 4
STUDY = f"""
schema = 1
question = "Does dropout help?"
design = "sweep"
seeds = {SEEDS}
margin_pp = 5.0

[[factors]]
name = "dropout"
field = "model.dropout"
levels = [0.25, 0.0]

[profiles.quick]
seeds = {SEEDS}
"""
CELLS = 2 * SEEDS


def run(here: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=here,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def started(here: Path, words: str, *more: str) -> tuple[subprocess.Popen[str], str]:
    """Start an ablation; return it, and what it had said when it had said these words."""
    process = subprocess.Popen(
        [*ABLATE, *more], cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return process, said
    raise AssertionError(said)


def complete_once(here: Path) -> None:
    trials: Any = pd.read_parquet(here / "reports" / "tiny-quick" / "trials.parquet")
    trials = trials[trials["final"]]
    assert set(trials["state"]) == {"complete"}
    assert len(trials) == trials["cell"].nunique() == CELLS
