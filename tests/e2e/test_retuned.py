"""A study with retuned arms, killed among its trials, among its settings and among the retuned arms, and run to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("default")
STUDY = """
schema = 1
question = "Does crop matter once the rate is retuned?"
seeds = 3
margin_pp = 2.0
retune = ["schedule.max_lr"]
search.retune_trials = 3
[space]
"schedule.max_lr" = { low = 0.003, high = 0.1, log = true }
[[arms]]
name = "no-crop"
set = { "augment.crop" = 0 }
"""
SETS = ("train.epochs=3", "train.batch_size=10", "data.train=100", "data.val=100")


def test_a_retuned_study_killed_at_every_stage_spends_exactly_its_budget(tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text(STUDY)
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "again.toml",
        "--profile",
        "quick",
        "--seeds",
        "3",
    ]
    command += [*(word for one in SETS for word in ("--set", one)), "--workers", "2", "--json"]
    for told in ("seed 0: val", "setting 2 of 3: val", "chosen on validation"):
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert run.stderr is not None
        said = ""
        for line in run.stderr:
            said += line
            if told in line:
                break
        assert told in said
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
    last = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert last.returncode == 0, last.stderr
    assert json.loads(last.stdout)["trials"]["complete"] == 18
    for name in ("again-quick", "again-retuning-quick", "again-retuned-quick"):
        with Ledger.open(name, runs=tmp_path / "runs", create=False) as ledger:
            cells = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
        assert len(cells) == len(set(cells)) == 6
    analysis = json.loads((tmp_path / "reports" / "again-quick" / "analysis.json").read_text())
    assert analysis["retuned"]["missing"] == 0
    assert len(analysis["retuned"]["pairs"]) == 1
