"""Every committed report is made again from its folder alone, words and all; drawing takes too long for a unit test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.report import rebuild

ROOT = Path(__file__).parent.parent.parent
FOLDERS = sorted(
    path.parent
    for path in (ROOT / "reports").glob("*/trials.parquet")
    if not path.parent.name.endswith("-quick")
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_report_is_made_again_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    for name in ("analysis.json", "effects.csv", "report.md"):
        (copy / name).unlink()
    rebuild(copy)
    for name in ("analysis.json", "effects.csv", "report.md"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes(), name
