"""Hugging Face's ``trainer_state.json``: its log, one row a step, and which of several checkpoints holds the whole of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from harness.analysis.sources.frame import flat

NAME = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def is_trainer_state(document: object) -> bool:
    """Whether a JSON document is the state of a trainer."""
    return (
        isinstance(document, Mapping)
        and isinstance(document.get("log_history"), list)
        and bool(document["log_history"])
    )


def log_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the log of a trainer with what was written at one step put together.

    Training, evaluation and the summary at the end have entries of their own.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for entry in document["log_history"]:
        cells = flat(entry)
        rows.setdefault(cells.get("step"), {}).update(cells)
    return list(rows.values())


def last_checkpoints(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Return one path a run: the state next to its checkpoints, or that of the last checkpoint."""
    runs: dict[PurePosixPath, list[tuple[float, PurePosixPath]]] = {}
    for path in paths:
        match = _CHECKPOINT.fullmatch(path.parent.name)
        run = path.parent.parent if match else path.parent
        runs.setdefault(run, []).append((float(match[1]) if match else float("inf"), path))
    return [max(found)[1] for found in runs.values()]
