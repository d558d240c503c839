"""Optuna's studies, from a journal file, a SQLite file or the URL of a database: one row a trial."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.sources.frame import unreadable, untyped
from harness.errors import ReportError
from harness.text import plural

if TYPE_CHECKING:
    import optuna
    import pandas as pd

_URL = re.compile(r"[a-z]+(\+\w+)?://")


def is_database_url(source: str) -> bool:
    """Whether a source is the URL of a database."""
    return bool(_URL.match(source))


def is_journal(payload: bytes) -> bool:
    """Whether a file begins as a journal of Optuna does."""
    return payload.startswith(b"{") and b'"op_code"' in payload[:400]


def read_journal(path: Path) -> tuple[pd.DataFrame, str]:
    """Read the studies of a journal file.

    Raises:
        ReportError: it is damaged or holds no trial.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    backend = JournalFileBackend(str(path))
    try:
        storage = optuna.storages.JournalStorage(backend)
    except Exception as error:  # noqa: BLE001 - a damaged line raises whatever its replay meets
        raise unreadable(path, error, "copy the journal again while nothing writes to it") from None
    return _trials(storage, str(path))


def read_database(source: str) -> tuple[pd.DataFrame, str]:
    """Read the studies of a database, given by its URL or as a SQLite file.

    Raises:
        ReportError: there is no such database, or it holds no study of Optuna.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    url = source if is_database_url(source) else f"sqlite:///{source}"
    if url.startswith("sqlite:///"):
        _check_file(Path(url.removeprefix("sqlite:///")))
    shown = re.sub(r"//[^@/]*@", "//", url)
    try:
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
        return _trials(storage, shown)
    except (SQLAlchemyError, RuntimeError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise unreadable(shown, why, "check the URL, and `optuna storage upgrade`") from None


def _check_file(path: Path) -> None:
    """Raise a ReportError unless a SQLite file holds studies; opening one that does not would write to it."""
    if not path.is_file():
        raise ReportError(f"{path}: there is no such file", "check the path after sqlite:///")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in rows}
    except sqlite3.Error as error:
        raise unreadable(path, error, "copy the database again") from None
    finally:
        if "database" in locals():
            database.close()
    if not {"studies", "trials"} <= tables:
        raise ReportError(
            f"{path}: is a database, and not one of Optuna", "export its table of runs as CSV"
        )


def _trials(storage: optuna.storages.BaseStorage, shown: str) -> tuple[pd.DataFrame, str]:
    import optuna
    import pandas as pd

    names = optuna.study.get_all_study_names(storage)
    frames = []
    for name in names:
        study = optuna.load_study(study_name=name, storage=storage)
        frame = study.trials_dataframe()
        if not frame.empty:
            frames.append(frame.assign(study=name) if len(names) > 1 else frame)
    if not frames:
        raise ReportError(f"{shown}: holds no trial of Optuna", "name the storage of the study")
    trials = untyped(pd.concat(frames, ignore_index=True), shown)
    drop = [name for name in trials.columns if name.startswith("system_attrs_")]
    said = f"{plural(len(frames), 'study', 'studies')} of a storage"
    return trials.drop(columns=drop), said
