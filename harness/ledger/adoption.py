"""Finished trials that the ledgers of other studies hold: a cell is the same wherever it was run.

``harness.report.adoption`` finds those that reports hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from optuna.artifacts.exceptions import ArtifactNotFound

from harness.errors import ReportError, StorageError
from harness.ledger.artifacts import ArtifactFolder
from harness.ledger.book import open_book
from harness.ledger.rows import FINAL, artifact_of, key_of, trial_of
from harness.study.trial import Cell, Curve, Outcomes, Trial, unpack_artifact

Offer = tuple[Trial, Curve, Outcomes | None]


def find_adoptable(cells: Iterable[Cell], runs: Path, *, besides: str = "") -> list[Offer]:
    """Return finished trials of these cells that other studies under ``runs`` hold, one a cell.

    Pruned trials are left out: they were stopped by the rules of their own study, which may be a
    screening. Journals that do not read are skipped.

    Args:
        cells: what is wanted.
        runs: the folder of all runs; a journal is looked for in each of its folders.
        besides: name of the study not to look in.
    """
    missing = {cell.key for cell in cells}
    offers: list[Offer] = []
    for journal in sorted(runs.glob("*/journal.log")):
        if journal.parent.name == besides or not missing:
            continue
        with suppress(StorageError, OSError):
            # a search through the text is far quicker than loading a journal that has nothing
            content = journal.read_bytes()
            if any(key.encode() in content for key in missing):
                here = _finished_in(journal, missing, f"{runs.name}/{journal.parent.name}")
                missing -= {trial.cell for trial, _, _ in here}
                offers += here
    return offers


def _finished_in(journal: Path, wanted: Collection[str], place: str) -> list[Offer]:
    book = open_book(journal.parent.name, journal, create=False, repair=False)
    store = ArtifactFolder(Path(book.attribute("artifacts") or journal.parent / "artifacts"))
    offers: dict[str, Offer] = {}
    for row in book.rows(*FINAL):
        if key_of(row) not in wanted or not row.user_attrs.get("trial"):
            continue
        trial, name = trial_of(row), artifact_of(row)
        with suppress(OSError, ArtifactNotFound, ReportError):
            if trial.state != "pruned":
                whole = trial.model_copy(update={"adopted": place})
                offers.setdefault(trial.cell, (whole, *read_artifact(store, name)))
    return list(offers.values())


def read_artifact(store: ArtifactFolder, name: str) -> tuple[Curve, Outcomes | None]:
    """Return what an artifact holds; nothing for an empty name.

    Raises:
        OSError, ArtifactNotFound: it does not read or is not there.
        ReportError: it is damaged.
    """
    if not name:
        return Curve(), None
    with store.open_reader(name) as file:
        return unpack_artifact(file.read())
