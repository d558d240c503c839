"""The page over all reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ReportError
from harness.report import Written, write_index, write_material
from tests.report import planted


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_material(folder / "html", planted.html_names(), provisional=True)
    write_material(folder / "sweep", planted.sweep(), provisional=True)
    (folder / "broken").mkdir()
    (folder / "broken" / "analysis.json").write_text("{}")
    write_index(folder)
    return folder


def test_the_index_leads_to_every_report(reports: Path) -> None:
    text = (reports / "index.html").read_text(encoding="utf-8")
    assert 'href="html/index.html"' in text
    assert 'href="sweep/index.html"' in text


def test_the_index_names_question_verdict_best_mean_and_cost(reports: Path) -> None:
    text = (reports / "README.md").read_text(encoding="utf-8")
    assert "What does it change?" in text
    assert "▼ worse" in text
    assert "best mean: " in text
    assert "of training" in text


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_shown(reports: Path) -> None:
    assert "does not fit this version" in (reports / "index.html").read_text(encoding="utf-8")


def test_names_with_html_stay_text_in_the_index(reports: Path) -> None:
    assert "<script" not in (reports / "index.html").read_text(encoding="utf-8")


def test_without_a_report_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no report") as caught:
        write_index(tmp_path)
    assert "harness ablate" in caught.value.hint


def test_the_index_is_the_same_when_written_again(written: Written) -> None:
    first = write_index(written.folder.parent).read_bytes()
    assert write_index(written.folder.parent).read_bytes() == first
    for name in ("index.html", "README.md"):
        (written.folder.parent / name).unlink()
