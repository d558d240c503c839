"""What the README says in numbers is what the committed reports say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from harness.report import Material, write_material
from harness.study.study import load_study
from harness.study.trial import Curve
from tests import planted

ROOT = Path(__file__).parent.parent


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a study of the claims in which the schedule helps, and of a reference whose loss turns up at epoch 3."""
    reports = tmp_path_factory.mktemp("reports")
    claims = load_study("claims").under("small")
    helped = dict.fromkeys(
        ("reference", "no-weight-decay", "no-grad-clip", "no-weight-decay-no-grad-clip"), 6.0
    )
    trials = planted.planted(claims, helped, sd=0.3)
    write_material(reports / claims.folder, Material(claims, tuple(trials)), provisional=True)
    reference = load_study("reference").under("small", seeds=3)
    curve = Curve(
        val_loss=(2.0, 1.5, 1.2, *(1.2 + 0.1 * i for i in range(1, 10))), val_accuracy=(0.5,) * 12
    )
    ran = [
        one.model_copy(update={"params": 36_000}) for one in planted.planted(reference, level=50.0)
    ]
    material = Material(reference, tuple(ran), curves={one.cell: curve for one in ran})
    write_material(reports / reference.folder, material, provisional=True)
    return str(tool("readme_findings").findings(reports))


@pytest.mark.parametrize("name", ["readme_table", "readme_findings"])
def test_the_numbers_of_the_readme_are_those_of_the_committed_reports(name: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool(name).readme(text) == text


def test_a_claim_that_was_tested_holds_or_not_with_interval_and_n(section: str) -> None:
    (line,) = [line for line in section.splitlines() if "write-up's claim" in line]
    assert "one-cycle holds, +" in line
    assert "weight-decay makes no difference beyond ±1 pp" in line
    assert line.count("], n = 8") == 3


def test_the_reference_stands_beside_the_write_up_with_the_difference(section: str) -> None:
    (line,) = [line for line in section.splitlines() if "The reference, as published" in line]
    assert "pp from its 92 %" in line
    assert "test accuracy (used for validation, as in the write-up) " in line
    assert "; test loss turns up at epoch 3 (median of 3 of 3 seeds)" in line
    assert "the write-up's after about 30" in line
    assert "2,000 of 50,000 training images" in line


def test_a_study_without_a_report_has_no_line(section: str, tmp_path: Path) -> None:
    assert "**Blocks**" not in section
    assert tool("readme_findings").findings(tmp_path) == "No report has been committed yet.\n"
