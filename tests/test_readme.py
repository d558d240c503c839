"""What the README says in numbers and draws is what the committed reports say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.report import Material, write_material
from harness.study.study import load_study
from tests import planted

ROOT = Path(__file__).parent.parent


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a study of the claims in which only the schedule helps."""
    reports = tmp_path_factory.mktemp("reports")
    claims = load_study("claims").under("small")
    effects_pp = dict.fromkeys(
        ("reference", "no-weight-decay", "no-grad-clip", "no-weight-decay-no-grad-clip"), 6.0
    )
    trials = planted.planted(claims, effects_pp, sd=0.3)
    write_material(reports / claims.folder, Material(claims, tuple(trials)), provisional=True)
    return str(tool("readme_findings").findings(reports))


@pytest.mark.parametrize("name", ["readme_picture", "readme_findings"])
def test_the_numbers_of_the_readme_are_those_of_the_committed_reports(name: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool(name).readme(text) == text


def test_the_page_of_findings_is_what_the_committed_reports_say() -> None:
    found = tool("what_we_found")
    assert found.PAGE.read_text(encoding="utf-8") == found.page()


def test_the_page_of_findings_has_every_arm_of_its_studies_with_its_verdict() -> None:
    found = tool("what_we_found")
    text = found.PAGE.read_text(encoding="utf-8")
    for question in found.QUESTIONS:
        report = ROOT / "reports" / f"{question.study}-small" / "report.md"
        for arm in re.findall(
            r"^\| ([\w.=-]+)[^|]*\|.*\| ▼ worse", report.read_text("utf-8"), re.MULTILINE
        ):
            rows = [line for line in text.splitlines() if line.startswith(f"| {arm}")]
            assert any("| worse" in row for row in rows), arm


def test_the_picture_is_drawn_from_the_committed_report() -> None:
    picture = tool("readme_picture")
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.picture()


def test_the_picture_has_every_number_and_verdict_of_the_report_s_table() -> None:
    picture = tool("readme_picture")
    report = (picture.REPORT / "report.md").read_text(encoding="utf-8")
    table = {
        line.split("|")[1].split()[0]: line
        for line in report.splitlines()
        if re.match(r"\| [\w-]+ \((with|everything|augment)", line)
    }
    texts = ["".join(node.itertext()) for node in ET.fromstring(picture.picture())]  # noqa: S314
    intervals = [text for text in texts if "[" in text]
    assert len(intervals) == 2 * len(picture.LABELS)
    for arm, (accuracy, gap) in zip(
        picture.LABELS, zip(intervals[::2], intervals[1::2], strict=True), strict=True
    ):
        assert accuracy in table[arm]
        assert gap in table[arm]
    assert sum(text.endswith(("equivalent", "worse", "better")) for text in texts) == len(
        picture.LABELS
    )


def test_a_credited_part_helps_or_not_with_interval_and_n(lines: str) -> None:
    (line,) = lines.splitlines()
    assert "one-cycle, against a constant rate as high as its peak, raises accuracy, +" in line
    assert "weight-decay changes accuracy by less than the margin" in line
    assert "(95 % t, n = 8 seeds, margin ±1 pp; [2,000 images, " in line
    assert line.endswith(" pixels](reports/claims-small/report.md)).")


def test_a_report_that_is_not_there_has_no_line(lines: str, tmp_path: Path) -> None:
    assert "**Augmentations**" not in lines
    assert tool("readme_findings").findings(tmp_path) == "No report has been committed yet.\n"
