"""The committed reports: their folders alone give their numbers again, and they stay small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from harness.report import read_folder, rebuild, write_index, write_material

ROOT = Path(__file__).parent.parent.parent
FOLDERS = sorted(
    path.parent
    for path in (ROOT / "reports").glob("*/trials.parquet")
    if not path.parent.name.endswith("-quick")
)
KEPT = ROOT / "tests" / "data" / "report-schema-1"
"""A report of schema 1 as it was written: later versions have to read it, and to make the same of it."""

NUMBERS = ("analysis.json", "effects.csv")
RAW = ("trials.parquet", "curves.parquet", "images.npz")
LARGEST_RAW = 1_500_000  # bytes


def dispatched(*prefixes: str) -> str:
    """The sets of instructions that numpy could pick at run time here and can be told not to, those with these prefixes."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join(name for name in found if name.startswith(prefixes))


PROCESSORS = {
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": dispatched("AVX512", "X86_V4")},
    "without AVX2 and FMA": {
        "NPY_DISABLE_CPU_FEATURES": dispatched("AVX512", "X86_V", "AVX2", "FMA3")
    },
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2"},
    "Zen": {"OPENBLAS_CORETYPE": "Zen"},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
}
"""Settings under which numpy, its linear algebra and torch add in the order of another processor."""

NEEDED = {"Haswell": "AVX2", "Zen": "AVX2", "SkylakeX": "AVX512F"}


def same(folder: Path, before: Path, names: tuple[str, ...]) -> list[str]:
    """The files that are not byte for byte what they were."""
    return [name for name in names if (folder / name).read_bytes() != (before / name).read_bytes()]


def test_there_are_committed_reports() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_numbers_of_a_committed_report_come_from_its_folder_byte_for_byte(
    folder: Path, tmp_path: Path
) -> None:
    write_material(tmp_path / folder.name, read_folder(folder), provisional=True, data=False)
    assert same(tmp_path / folder.name, folder, NUMBERS) == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_raw_tables_of_a_committed_report_are_small(folder: Path) -> None:
    assert sum((folder / name).stat().st_size for name in RAW) <= LARGEST_RAW


def test_a_report_of_schema_1_is_made_again_byte_for_byte_from_its_data_files(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(KEPT, copy)
    for name in (*NUMBERS, "report.md"):
        (copy / name).unlink()
    rebuild(copy)
    assert same(copy, KEPT, (*NUMBERS, "report.md")) == []


def test_the_landing_page_is_that_of_the_committed_reports(tmp_path: Path) -> None:
    for folder in FOLDERS:
        (tmp_path / folder.name).mkdir()
        for name in ("analysis.json", "trials.parquet", "tuning.json"):
            if (folder / name).is_file():
                shutil.copy(folder / name, tmp_path / folder.name)
    write_index(tmp_path, landing=True)
    assert same(tmp_path, ROOT / "reports", ("README.md",)) == []


@pytest.mark.parametrize("processor", PROCESSORS)
def test_other_processors_make_the_same_bytes(processor: str) -> None:
    features = import_module("numpy._core._multiarray_umath").__cpu_features__
    changes = PROCESSORS[processor]
    if not all(changes.values()) or not features.get(NEEDED.get(processor, "SSE2"), False):
        pytest.skip(f"this processor cannot be made one of kind: {processor}")
    child = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("remade.py")), str(KEPT), *map(str, FOLDERS)],
        env={**os.environ, **changes, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, ""), child.stderr
