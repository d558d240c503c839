"""SLURM from the command line, on a real one of one node: to the report, killed in the middle, left alone, a plain array."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.tiny import ABLATE, HARNESS, STUDY, complete_once, run, started

pytestmark = pytest.mark.filterwarnings("default")

DEFAULTS = """
launcher = "slurm"
workers = 2
partition = "main"
account = "vision"
minutes = 7
cpus = 2
"""


@pytest.fixture
def here(tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study, from which jobs can be submitted."""
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    (tmp_path / "tiny.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path


def queue(*columns: str) -> list[str]:
    """What waits or runs, a task a line."""
    command = ["squeue", "--noheader", "--array", f"--format={' '.join(columns or ('%i',))}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def until(what: Callable[[], object]) -> None:
    """Wait for something that is to come."""
    end = time.monotonic() + 300
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_study_is_sent_to_slurm_and_followed_to_its_report(here: Path) -> None:
    (here / "harness.toml").write_text(DEFAULTS, encoding="utf-8")
    done = run(here, *ABLATE, "--set", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reports/tiny-quick/index.html\n"
    assert "submitted 2 tasks as job" in done.stderr
    assert "sacct" not in done.stderr
    complete_once(here)
    (script,) = (here / "runs" / "tiny-quick" / "slurm").glob("*_submission.sh")
    asked = {
        line.removeprefix("#SBATCH --")
        for line in script.read_text(encoding="utf-8").splitlines()
        if "#SBATCH" in line
    }
    assert {"partition=main", "account=vision", "time=7", "cpus-per-task=2"} <= asked
    assert [line.partition("%")[0] for line in asked if line.startswith("array")] == ["array=0-1"]
    assert not [line for line in asked if "gpu" in line or "gres" in line]


def test_a_task_killed_in_the_middle_leaves_cells_that_the_same_command_completes(
    here: Path,
) -> None:
    slow = ("--launcher", "slurm", "--workers", "2", "--set", "train.epochs=40")
    process, _ = started(here, "[2/", *slow)
    assert process.stderr is not None
    killed = min(queue())
    subprocess.run(["scancel", "--signal=KILL", killed], check=True)
    rest = process.stderr.read()
    assert process.wait(600) == 1
    assert "the tasks ended with" in rest
    assert "the same command goes on from here" in rest
    again = run(here, *ABLATE, *slow)
    assert again.returncode == 0, again.stderr
    complete_once(here)


def test_ctrl_c_ends_the_watching_and_not_the_tasks_and_no_second_array_is_sent(here: Path) -> None:
    slow = ("--launcher", "slurm", "--workers", "2", "--set", "train.epochs=40")
    process, _ = started(here, "Ctrl-C ends the watching", *slow)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(600) == 130
    assert "no longer watching" in rest
    second = run(here, *ABLATE, *slow)
    assert second.returncode == 2, second.stderr
    assert "still wait or run" in second.stderr
    until(
        lambda: (
            " running" in run(here, *HARNESS, "status", "--study", "tiny-quick").stdout
            or not queue()
        )
    )
    until(lambda: not queue())
    report = run(here, *HARNESS, "report", "tiny-quick")
    assert report.returncode == 0, report.stderr
    complete_once(here)


def test_a_plain_job_array_of_workers_needs_no_shard_and_no_submitit(here: Path) -> None:
    planned = run(here, *ABLATE, "--set", "train.epochs=2", "--timeout", "0")
    assert planned.returncode == 130, planned.stderr
    script = here / "job.sh"
    command = " ".join([*HARNESS, "worker", "--study", "tiny-quick", "--timeout", "3300"])
    script.write_text(f"#!/bin/sh\n#SBATCH --array=1-3\n{command}\n", encoding="utf-8")
    submitted = run(
        here, "sbatch", "--wait", f"--export=ALL,PATH={os.environ['PATH']}", str(script)
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert len(list((here / "runs" / "tiny-quick" / "shards").glob("*-of-3-*.log"))) == 3
    report = run(here, *HARNESS, "report", "tiny-quick")
    assert report.returncode == 0, report.stderr
    complete_once(here)
