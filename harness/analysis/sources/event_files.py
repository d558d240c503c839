"""TensorBoard event files, read by TensorBoard's own reader: one row a step, one column a tag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ReportError

_PARTS = ("train", "training", "validation", "val", "eval", "test")
_PREFIX = "events.out.tfevents."


def is_event_file(name: str) -> bool:
    """Whether a file is called as event files are."""
    return name.startswith(_PREFIX) or ".tfevents." in name


def runs_of(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the folders of event files by run: ``train`` and ``validation`` next to each other are one."""
    folders = sorted({file.parent for file in files})
    runs: dict[Path, list[Path]] = {}
    for folder in folders:
        run = folder.parent if folder.name.lower() in _PARTS else folder
        runs.setdefault(run, []).append(folder)
    return runs


def event_rows(run: Path, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the scalars of a run by step; those of a part have its name before their own.

    Raises:
        ReportError: tensorboard is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise ReportError(
            f"{run}: reading event files needs tensorboard", "pip install 'harness[tensorboard]'"
        ) from None
    rows: dict[int, dict[str, Any]] = {}
    for folder in folders:
        before = f"{folder.name}_" if folder != run else ""
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        tags = events.Tags()
        for tag in tags["scalars"]:
            for event in events.Scalars(tag):
                rows.setdefault(event.step, {})[before + tag] = float(event.value)
        # TensorFlow 2 writes scalars as tensors of no dimension
        for tag in tags["tensors"]:
            for event in events.Tensors(tag):
                value = make_ndarray(event.tensor_proto)
                if value.shape == () and value.dtype.kind in "fiu":
                    rows.setdefault(event.step, {})[before + tag] = float(value)
    return [{"step": step, **rows[step]} for step in sorted(rows)]
