"""Finished trials that reports hold, so that work done on one machine goes on on another: its report is all that has to come.

Never from the report of a table, whose arms have no recipe, or of a search, which keeps test scores
to itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from harness.errors import HarnessError, ReportError
from harness.report.folder import read_folder, read_parquet
from harness.study.trial import Cell, Curve, Outcomes, Trial


def find_reported(
    cells: Iterable[Cell], reports: Path
) -> list[tuple[Trial, Curve, Outcomes | None]]:
    """Return finished trials of these cells that reports hold, one a cell, with their curves and per-image outcomes.

    A cell's key holds recipe, seed, images, plug-in code and engine, so that a trial of another
    engine or of other images is none of them. Failed and pruned trials are left out, and reports
    that nobody can read are passed over.

    Args:
        cells: what is wanted.
        reports: the folder of all reports; a ``trials.parquet`` is looked for in each of its
            folders.
    """
    # one trial serves a cell, so a cell that is served leaves
    missing = {cell.key: cell for cell in cells}
    found: list[tuple[Trial, Curve, Outcomes | None]] = []
    for path in sorted(reports.glob("*/trials.parquet")):
        folder = path.parent
        if not missing:
            break
        if missing.keys().isdisjoint(_keys(path)) or (folder / "tuning.json").is_file():
            continue
        # a report that somebody broke must not stop a run that has other sources
        with suppress(HarnessError):
            material = read_folder(folder)
            if material.study.table:
                continue
            for trial in material.trials:
                cell = missing.get(trial.cell)
                curve = material.curves.get(trial.cell, Curve())
                if (
                    cell is None
                    or trial.state not in ("complete", "diverged")
                    or len(curve) != trial.epochs
                ):
                    continue
                if (trial.recipe, trial.seed, trial.label) != (cell.recipe, cell.seed, ""):
                    continue  # the table was changed by hand
                whole = trial.model_copy(update={"adopted": f"{reports.name}/{folder.name}"})
                found.append((whole, curve, material.outcomes.get(trial.cell)))
                del missing[trial.cell]
    return found


def _keys(path: Path) -> set[str]:
    """The cell keys of a table of trials, which say at little cost whether the folder is worth reading."""
    try:
        return set(read_parquet(path, columns=["cell"])["cell"].to_pylist())
    except (ReportError, KeyError):
        return set()
