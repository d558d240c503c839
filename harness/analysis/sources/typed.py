"""Formats that keep types: Parquet, Arrow and Excel, read by pyarrow and openpyxl through pandas."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

from harness.analysis.sources.frame import unreadable, untyped
from harness.errors import ReportError

if TYPE_CHECKING:
    import pandas as pd


def read_parquet_table(payload: bytes, place: str, file: str) -> pd.DataFrame:
    """Read a Parquet or Arrow file.

    Raises:
        ReportError: it is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    read = pd.read_parquet if payload.startswith(b"PAR1") else pd.read_feather
    try:
        frame = read(io.BytesIO(payload))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(place, str(error).splitlines()[0], "export it again") from None
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    return untyped(frame, file)


def read_workbook(payload: bytes, place: str, file: str) -> tuple[pd.DataFrame, str]:
    """Read the sheets of an Excel workbook that have the header of the first; a column says which.

    Raises:
        ReportError: it is damaged, or openpyxl is not installed.
    """
    import pandas as pd

    try:
        sheets = pd.read_excel(
            io.BytesIO(payload), sheet_name=None, dtype=object, engine="openpyxl"
        )
    except ImportError:
        raise ReportError(
            f"{place}: reading Excel needs openpyxl",
            "pip install 'harness[excel]', or save the sheet as CSV",
        ) from None
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise unreadable(place, error, "save the sheet as CSV") from None
    filled = {name: _trimmed(sheet) for name, sheet in sheets.items()}
    filled = {name: sheet for name, sheet in filled.items() if not sheet.empty}
    if not filled:
        raise ReportError(f"{place}: every sheet is empty", "write one run a row, a header first")
    # a sheet of notes before the results holds no table of numbers
    tables = [name for name, sheet in filled.items() if len(sheet) > 1 and _has_numbers(sheet)]
    first = (tables or list(filled))[0]
    alike = {n: s for n, s in filled.items() if list(s.columns) == list(filled[first].columns)}
    said = f"an Excel workbook, sheet {first!r}"
    if len(alike) > 1:
        said = f"an Excel workbook, {len(alike)} sheets of one kind (column 'sheet')"
    frames = [
        sheet.assign(sheet=name) if len(alike) > 1 else sheet for name, sheet in alike.items()
    ]
    left = [name for name in filled if name not in alike]
    said += f"; left out: {', '.join(map(repr, left))}" if left else ""
    return untyped(pd.concat(frames, ignore_index=True), file), said


def _has_numbers(sheet: pd.DataFrame) -> bool:
    """Whether a sheet has several columns, and one whose first cell below the header is a number or close to one."""
    first = [str(cell) for cell in sheet.iloc[0]]
    return len(first) > 1 and any(
        re.match(r"[+-]?[.,]?\d[\d.,eE+-]*\s*(%|\(|±|$)", cell) for cell in first
    )


def _trimmed(sheet: pd.DataFrame) -> pd.DataFrame:
    """Return a sheet from its header on: rows above it and empty columns are left out."""
    full = sheet.dropna(axis=0, how="all").dropna(axis=1, how="all")
    unnamed = [str(name).startswith("Unnamed:") for name in full.columns]
    # a title above the table leaves the header in the first row that is filled throughout
    if full.empty or sum(unnamed) * 2 <= len(unnamed):
        return full
    whole = full.notna().all(axis=1)
    if not whole.any():
        return full
    header = whole.to_numpy().argmax()
    body = full.iloc[header + 1 :].copy()
    body.columns = [str(name) for name in full.iloc[header]]
    return body
