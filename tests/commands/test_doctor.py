"""The doctor: finds what is there and what is missing, never raises, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands.doctor import Finding, examine

Harness = Callable[..., subprocess.CompletedProcess[str]]


def found(tmp_path: Path) -> dict[str, Finding]:
    return {one.name: one for one in examine(runs=tmp_path / "runs", reports=tmp_path / "reports")}


def test_every_part_of_the_machine_is_looked_at(tmp_path: Path) -> None:
    wanted = {
        "python",
        "cores",
        "libraries",
        "torch",
        "disk",
        "images",
        "storage",
        "write runs",
        "write reports",
    }
    assert wanted <= found(tmp_path).keys()


def test_a_machine_that_runs_these_tests_can_run_studies(tmp_path: Path) -> None:
    assert [one for one in found(tmp_path).values() if one.level == "fail"] == []


def test_whatever_is_not_ok_has_a_hint(tmp_path: Path) -> None:
    assert [one for one in found(tmp_path).values() if one.level != "ok" and not one.hint] == []


def test_nothing_stays_behind(tmp_path: Path) -> None:
    examine(runs=tmp_path / "runs", reports=tmp_path / "reports")
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_missing_come_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    assert "harness data fetch cifar10" in found(tmp_path)["cifar10"].hint


def test_a_data_root_that_is_no_folder_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "nowhere"))
    assert found(tmp_path)["HARNESS_DATA"].level == "warn"


def test_a_folder_that_may_not_be_written_to_is_a_failure(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    findings = {
        one.name: one for one in examine(runs=tmp_path / "runs", reports=closed / "reports")
    }
    assert findings["write reports"].level == "fail"


def test_a_file_where_a_run_needs_a_folder_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("", encoding="utf-8")
    findings = {
        finding.name: finding
        for finding in examine(runs=tmp_path / "runs", reports=tmp_path / "reports")
    }
    assert findings["write runs"].level == "fail"
    assert "is a file" in findings["write runs"].what
    assert findings["write reports"].level == "ok"


def test_a_storage_that_cannot_be_written_to_is_a_finding_and_not_a_crash(tmp_path: Path) -> None:
    place = Path("/proc/self")  # no file can be made there, not even by root
    if not place.is_dir():
        pytest.skip("there is no /proc on this system")
    findings = {one.name: one for one in examine(runs=place / "runs", reports=tmp_path / "reports")}
    assert findings["storage"].level == "fail"


def test_a_broken_torch_is_a_finding_and_the_rest_is_looked_at_all_the_same(
    tmp_path: Path, harness: Harness
) -> None:
    (tmp_path / "torch.py").write_text(
        "raise ImportError('operator torchvision::nms does not exist')\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = harness("doctor", "--json", PYTHONPATH=paths)
    findings = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert "nms does not exist" in findings["torch"]["what"]
    assert {"images", "write runs"} <= findings.keys()


def test_the_command_exits_with_0_where_nothing_fails_and_says_it_in_words(
    harness: Harness,
) -> None:
    done = harness("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python" in done.stdout
