"""The program as a newcomer runs it: ``harness ablate --study augmentations`` on the bundled images, to the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.pages import ROOT, blocks

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run the first command of the README, once, in a folder of its own."""
    folder = tmp_path_factory.mktemp("newcomer")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "ablate", "--study", "augmentations"],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    sys.stderr.write(done.stderr)
    return folder, done


def test_the_main_job_ends_well_and_names_report_and_next_size(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    report = folder / done.stdout.strip()
    assert report.name == "index.html"
    assert report.is_file()
    # which step it is follows from the scores: more seeds, a confirmation, or the next size
    *_, before, command = done.stderr.splitlines()
    assert before.startswith("next")
    assert command.strip().startswith("harness ablate --study augmentations --profile ")


def test_the_readme_shows_lines_that_this_command_prints(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """By their beginnings: what follows is scores, which another machine may have otherwise."""
    _, done = finished
    (shown,) = blocks(ROOT / "README.md", "text")
    printed = {_beginning(line) for line in (done.stderr + done.stdout).splitlines()}
    for line in filter(str.strip, shown.splitlines()):
        assert _beginning(line) in printed, line


def _beginning(line: str) -> tuple[str, ...]:
    """The first three words, or fewer where a score comes earlier."""
    return tuple(takewhile(lambda word: not re.match(r"[+-]?\d+\.\d", word), line.split()[:3]))


def test_every_trial_is_in_the_table_once(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    trials: Any = pd.read_parquet(folder / "reports" / "augmentations-quick" / "trials.parquet")
    assert len(trials) == trials["cell"].nunique() >= 6 * 5
    assert set(trials["state"]) == {"complete"}


def test_the_story_is_true_on_the_bundled_images(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Without augmentation the net learns its images by heart, and the gap is wider by more than noise."""
    folder, _ = finished
    reports = folder / "reports" / "augmentations-quick"
    trials: Any = pd.read_parquet(reports / "trials.parquet")
    arms: Any = pd.read_csv(reports / "arms.csv")
    bare = arms.set_index("arm").loc["none", "recipe_id"]
    assert trials.loc[trials["recipe_id"] == bare, "train_accuracy"].mean() >= 0.96
    effects: Any = pd.read_csv(reports / "effects.csv")
    gap: Any = effects[
        (effects["kind"] == "arm") & (effects["metric"] == "gap") & effects["estimate"].notna()
    ].set_index("term")
    assert gap.loc["none", "estimate"] >= 4
    assert gap.loc["none", "low"] > 0
    assert ((gap["low"] > 0) | (gap["high"] < 0)).sum() >= 3


def test_running_it_again_trains_nothing(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    before = (folder / "reports" / "augmentations-quick" / "effects.csv").read_bytes()
    again = subprocess.run(
        [sys.executable, "-m", "harness", "ablate", "--study", "augmentations", "--json"],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["plan"]["to_run"] == 0
    assert (folder / "reports" / "augmentations-quick" / "effects.csv").read_bytes() == before


def test_ctrl_c_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "dropout",
        "--profile",
        "quick",
        "--seeds",
        "2",
    ]
    command += ["--set", "train.epochs=6"]
    first = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said = ""
    assert first.stderr is not None
    for line in first.stderr:
        said += line
        if "seed 0: val" in line:
            break
    first.send_signal(signal.SIGINT)
    rest = first.communicate(timeout=60)[1]
    assert first.returncode == 130, said + rest
    assert "the same command goes on from here" in rest
    second = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert second.returncode == 0, second.stderr
    trials: Any = pd.read_parquet(tmp_path / "reports" / "dropout-quick" / "trials.parquet")
    # what was handed back or lost is kept beside the final records
    trials = trials[trials["final"]]
    arms = pd.read_csv(tmp_path / "reports" / "dropout-quick" / "arms.csv")
    assert len(trials) == trials["cell"].nunique() == 2 * len(arms)


def test_a_kill_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "grad-clip",
        "--profile",
        "quick",
        "--seeds",
        "2",
    ]
    command += ["--set", "train.epochs=6"]
    for _ in range(2):
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert run.stderr is not None
        for line in run.stderr:
            if "val" in line and "seed" in line:
                break
        time.sleep(0.3)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=30)
    last = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert last.returncode == 0, last.stderr
    trials: Any = pd.read_parquet(tmp_path / "reports" / "grad-clip-quick" / "trials.parquet")
    # what was handed back or lost is kept beside the final records
    trials = trials[trials["final"]]
    arms = pd.read_csv(tmp_path / "reports" / "grad-clip-quick" / "arms.csv")
    assert len(trials) == trials["cell"].nunique() == 2 * len(arms)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ablate", "--study", "augmentatons"], ["did you mean 'augmentations'"]),
        (
            ["ablate", "--study", "augmentations", "--set", "augment.crp=1"],
            ["did you mean 'augment.crop'"],
        ),
        (
            ["ablate", "--study", "augmentations", "--set", "train.epochs=many"],
            ["train.epochs", "whole number"],
        ),
        (
            [
                "ablate",
                "--study",
                "augmentations",
                "--set",
                "model.blocks=0",
                "--set",
                "model.dropout=-1",
            ],
            ["model.blocks", "model.dropout"],
        ),
        (
            [
                "ablate",
                "--study",
                "augmentations",
                "--profile",
                "quick",
                "--set",
                "model.pool=[1,2,3]",
                "--set",
                "data.size=4",
            ],
            ["model.pool", "pixels"],
        ),
        (["ablate", "--study", "augmentations", "--profile", "small"], ["cifar10"]),
    ],
)
def test_bad_input_is_one_error_a_hint_and_status_2(
    tmp_path: Path, arguments: list[str], says: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == done.stderr.count("hint:") == 1
    assert "Traceback" not in done.stderr
    for words in says:
        assert words in done.stderr
    assert list(tmp_path.iterdir()) == []
