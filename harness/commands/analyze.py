"""``analyze``: the report of a study from a table of finished runs. Needs neither torch nor images."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from typing import Unpack

from harness.analysis.runs_table import Columns, Runs, read_runs
from harness.errors import ReportError
from harness.report import Provenance, Written, write_index, write_report
from harness.text import plural


def analyze_table(
    path: Path | str, *, reports: Path = Path("reports"), **columns: Unpack[Columns]
) -> tuple[Written, Runs]:
    """Analyse a table of finished runs and write its report under ``reports/<name of the file>``.

    Args:
        path: of a CSV file, one run a row, a header first.
        reports: folder of all reports.
        columns: ``arm``, ``seed``, ``metric``, ``baseline`` and ``margin``, and if wanted
            ``train``, ``gap``, ``unit``, ``lower_is_better``, ``common_seeds`` and ``alpha``: as
            ``harness.analysis.runs_table.read_runs`` takes them.

    Returns:
        What was written, and the table as it was read.

    Raises:
        ReportError: the table cannot be read, or does not say what is needed; the hint says what to
            change.
        UsageError: an argument that cannot be.
    """
    file = Path(path)
    found = read_runs(file, **columns)
    folder = reports / found.study.name
    _refuse_other_report(folder, file)
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    written = write_report(
        folder,
        found.study,
        found.trials,
        metrics=found.metrics,
        seeds=found.seeds,
        provenance=Provenance(
            commands=(_command(file, columns),),
            data=f"{file.name}, {plural(len(found.trials), 'row')}, sha256 {content}",
        ),
    )
    write_index(reports)
    return written, found


def _command(file: Path, columns: Columns) -> str:
    """Return the command that makes this report again."""
    unit = columns.get("unit", "auto")
    told = [("arm", columns["arm"]), ("seed", columns["seed"]), ("metric", columns["metric"])]
    told += [("baseline", columns["baseline"]), ("margin", f"{columns['margin']!r}")]
    told += [
        ("train", columns.get("train", "")),
        ("gap", columns.get("gap", "")),
        ("unit", "" if unit == "auto" else unit),
    ]
    told += [("alpha", f"{alpha!r}" if (alpha := columns.get("alpha", 0.05)) != 0.05 else "")]
    words = [
        "harness",
        "analyze",
        _place(file),
        *(part for key, value in told if value for part in (f"--{key}", value)),
    ]
    lower = columns.get("lower_is_better")
    words += [] if lower is None else ["--lower-is-better" if lower else "--higher-is-better"]
    words += ["--common-seeds"] * columns.get("common_seeds", False)
    return shlex.join(words)


def _place(file: Path) -> str:
    """The table's path as seen from here, which is where the report's command is run; absolute only where it lies elsewhere."""
    here = Path.cwd()
    return (
        str(file.relative_to(here))
        if file.is_absolute() and file.is_relative_to(here)
        else str(file)
    )


def _refuse_other_report(folder: Path, file: Path) -> None:
    """Keep the report of a study that was trained from being overwritten by that of a table of the same name."""
    kept = folder / "study.toml"
    if kept.is_file() and not re.search(
        r"^table = ", kept.read_text(encoding="utf-8"), re.MULTILINE
    ):
        raise ReportError(
            f"{folder} holds the report of a study that was trained, which {file.name} would replace",
            "rename the table: its report is called after the file",
        )
