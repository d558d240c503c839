"""The plain data refuses what could not be read."""

from __future__ import annotations

import pytest

from harness.errors import ReportError
from harness.report import Figure
from harness.report.document import table

TABLE = table("numbers", ["Arm", ">n"], [["a", "1"]])


@pytest.mark.parametrize("alt", ["", "   "])
def test_a_figure_without_alt_text_cannot_be_built(alt: str) -> None:
    with pytest.raises(ReportError, match="lacks alt text"):
        Figure("f", "title", alt, "caption", "<svg/>", TABLE)


def test_a_figure_without_a_table_cannot_be_built() -> None:
    with pytest.raises(ReportError, match="lacks a table"):
        Figure("f", "title", "finding", "caption", "<svg/>", table("empty", ["Arm"], []))


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ReportError, match="row 2 has 1 cells for 2 columns"):
        table("t", ["a", "b"], [["1", "2"], ["3"]])


def test_a_figure_shows_itself_in_a_notebook() -> None:
    assert Figure("f", "title", "finding", "caption", "<svg/>", TABLE)._repr_svg_() == "<svg/>"
