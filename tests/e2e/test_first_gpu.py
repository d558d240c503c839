"""The tool that looks at a GPU for the first time, on a CPU at tiny sizes: every check runs, and fails alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

CHECKS = {"A": 4, "B": 7, "C": 4, "D": 4}


def looked(
    out: Path, *options: str, device: str = "cpu"
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    command = [
        sys.executable,
        str(ROOT / "tools" / "first_gpu.py"),
        "--out",
        str(out),
        "--device",
        device,
        "--tiny",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    return done, json.loads((out / "summary.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize("stage", CHECKS)
def test_every_check_of_a_stage_runs_and_leaves_its_numbers(stage: str, tmp_path: Path) -> None:
    done, rows = looked(tmp_path, "--stage", stage)
    assert [row for row in rows if row["state"] != "ok"] == [], done.stdout
    assert done.returncode == 0
    assert len(rows) == CHECKS[stage]
    for row in rows:
        kept = json.loads((tmp_path / f"{row['check']}.json").read_text(encoding="utf-8"))
        assert kept["result"]["says"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_check_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    done, rows = looked(tmp_path, "--stage", "D", device="cuda:0")
    assert done.returncode == 1
    assert [row["state"] for row in rows] == ["failed"] * CHECKS["D"]
    assert all("CUDA" in row["says"] or "NVIDIA" in row["says"] for row in rows), done.stdout


def test_no_check_is_started_when_the_time_is_up(tmp_path: Path) -> None:
    done, rows = looked(tmp_path, "--minutes", "0")
    assert done.returncode == 0
    assert {row["says"] for row in rows} == {"no time left"}
