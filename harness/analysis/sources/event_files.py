"""TensorBoard event files, read by TensorBoard's own reader: one row a step, one column a tag."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ReportError

_PARTS = ("train", "training", "validation", "val", "eval", "test")
_PREFIX = "events.out.tfevents."


def is_event_file(name: str) -> bool:
    """Whether a file is called as event files are."""
    return name.startswith(_PREFIX) or ".tfevents." in name


def runs_of(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the folders of event files by run: ``train`` and ``validation`` next to each other are one.

    So is what ``add_scalars`` and ``add_hparams`` put into folders of their own below that of the run.
    """
    folders = sorted({file.parent for file in files})
    whole = Path(os.path.commonpath(folders)) if folders else None
    runs: dict[Path, list[Path]] = {}
    for folder in folders:
        below = folder.parent in folders and folder.parent != whole
        run = folder.parent if below or folder.name.lower() in _PARTS else folder
        runs.setdefault(run, []).append(folder)
    return runs


def event_rows(run: Path, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the scalars of a run by step, with its hyperparameters; those of a part have its name before their own.

    Raises:
        ReportError: tensorboard is not installed.
    """
    rows: dict[int, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    for folder in folders:
        try:
            events = event_scalars(folder)
        except ImportError:
            raise ReportError(
                f"{run}: reading event files needs tensorboard",
                "pip install 'harness[tensorboard]'",
            ) from None
        settings |= events.settings
        for tag, found in events.scalars.items():
            name = _named(tag, folder, run)
            for _, step, value in found:
                rows.setdefault(step, {})[name] = value
    return [{"step": step, **settings, **rows[step]} for step in sorted(rows)]


def _named(tag: str, folder: Path, run: Path) -> str:
    """The name of a tag as a column: with that of its part of the run, unless that says nothing or all of it."""
    part = folder.name
    if folder == run or re.fullmatch(r"[\d.]+", part):  # add_hparams names its folder by the time
        return tag
    return part if part.startswith(f"{tag.replace('/', '_')}_") else f"{part}_{tag}"


@dataclass(frozen=True, slots=True)
class EventScalars:
    """What the event files of a folder hold.

    Attributes:
        scalars: ``{tag: [(seconds since 1970, step, value)]}``, in the order in which they were written.
        settings: hyperparameters, as ``add_hparams`` writes them.
    """

    scalars: dict[str, list[tuple[float, int, float]]]
    settings: dict[str, Any]


def event_scalars(folder: Path) -> EventScalars:
    """Read the event files of a folder.

    Raises:
        ImportError: tensorboard is not installed.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    scalars: dict[str, list[tuple[float, int, float]]] = {
        tag: [(event.wall_time, event.step, float(event.value)) for event in events.Scalars(tag)]
        for tag in tags["scalars"]
    }
    # TensorFlow 2 writes scalars as tensors of no dimension
    for tag in tags["tensors"]:
        for event in events.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.shape == () and value.dtype.kind in "fiu":
                scalars.setdefault(tag, []).append((event.wall_time, event.step, float(value)))
    return EventScalars(scalars, _settings(events))


def _settings(events: Any) -> dict[str, Any]:
    from tensorboard.plugins.hparams import metadata

    try:
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    except KeyError:
        return {}
    given = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in given.items()}
