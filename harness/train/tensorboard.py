"""Event files for TensorBoard.

The epochs of a run as scalars, written by torch's ``SummaryWriter``.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.study.trial import Cell

VARIABLE = "HARNESS_TENSORBOARD"  # a folder: then every trial of our engine writes a run into it


class TensorBoardLog:
    """An ``on_epoch`` hook that writes every number of an entry, and stops nothing.

    Each is a scalar of its epoch.

    Args:
        folder: of this run; made when needed.
        notes: shown as the run's text, for example its recipe.

    Raises:
        UsageError: tensorboard is not installed, or the folder is not writable.
    """

    def __init__(self, folder: Path | str, notes: Mapping[str, Any] | None = None) -> None:
        # imported where it is used: it takes seconds, and most runs write no events
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            problem = f"could not write TensorBoard's events to {folder}: {error.strerror or error}"
            raise UsageError(
                problem, f"choose a folder that you may write to ({VARIABLE})"
            ) from None
        if notes:
            self._writer.add_text("recipe", f"`{json.dumps(notes, sort_keys=True)}`")

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Write an epoch's entry, as ``fit_one_cycle`` makes it."""
        for name, value in entry.items():
            if name != "epoch" and isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, entry["epoch"])
        # an epoch at a time: whoever watches sees it, and a killed run keeps it
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def check_tensorboard() -> None:
    """Raise a UsageError unless tensorboard is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "TensorBoard's event files need the package tensorboard",
            "pip install 'harness[tensorboard]'",
        )


def wanted() -> Path | None:
    """Return the folder that ``HARNESS_TENSORBOARD`` names; None without one.

    Raises:
        UsageError: it is asked for and tensorboard is not installed.
    """
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        return None
    check_tensorboard()
    return Path(folder)


def log_of(cell: Cell) -> TensorBoardLog | None:
    """Return the log of a trial, one run of its own, where ``HARNESS_TENSORBOARD`` asks for one."""
    folder = wanted()
    return (
        None
        if folder is None
        else TensorBoardLog(folder / cell.recipe.id / f"seed-{cell.seed}", cell.recipe.changed())
    )
