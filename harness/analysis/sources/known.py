"""Tables of widely used tools, known by their columns: what wrote them, and what has to be done to have a run a row."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.sources.frame import FILE, LINE, flat, text_of
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd

_SPLIT = re.compile(r"split(\d+)_(.+)")
_CHART = re.compile(r"(.+?) - (.+?)(__MIN|__MAX)?")
_NAN = re.compile(r"\b(nan|inf)\b")


@dataclass(frozen=True, slots=True)
class KnownTable:
    """What a tool's table is, and how it is to be read.

    Attributes:
        frame: with one measurement a row.
        what: the tool, in words.
        where: conditions that keep the runs that ended well.
        last: column that orders the rows of one run.
        created: column of the time at which a run began.
        notes: what was done, a sentence each.
    """

    frame: pd.DataFrame
    what: str
    where: tuple[str, ...] = ()
    last: str = ""
    created: str = ""
    notes: tuple[str, ...] = field(default=())


def recognised(frame: pd.DataFrame) -> KnownTable | None:
    """Return what a frame is by its columns, or None for a table of no tool in particular."""
    names = [str(name) for name in frame.columns if name not in (FILE, LINE)]
    for reader in (_cross_validation, _chart, _wandb, _wandb_api, _mlflow, _optuna):
        table = reader(frame, names)
        if table is not None:
            return table
    return None


def _cross_validation(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    """scikit-learn's ``cv_results_``: a row a candidate, a column a split, brought to a row a split."""
    import pandas as pd

    found = {name: match for name in names if (match := _SPLIT.fullmatch(name))}
    if not found or not any(name.startswith(("param", "mean_")) for name in names):
        return None
    kept = [n for n in names if n not in found and not n.startswith(("mean_", "std_", "rank_"))]
    if any(name.startswith("param_") for name in kept):
        kept = [name for name in kept if name != "params"]
    splits = sorted({int(match[1]) for match in found.values()})
    scores = list(dict.fromkeys(match[2] for match in found.values()))
    parts = []
    for split in splits:
        part = frame[[*kept, FILE, LINE]].assign(split=split)
        for score in scores:
            part[score] = frame.get(f"split{split}_{score}")
        parts.append(part.astype(object))
    long = pd.concat(parts, ignore_index=True)
    what = f"scikit-learn's cv_results_ ({plural(len(frame), 'candidate')} x {plural(len(splits), 'split')})"
    return KnownTable(long, what, notes=("a row was made of every candidate and split",))


def _chart(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    """The data of a W&B chart: a column a run, brought to a row a run and step."""
    import pandas as pd

    found = {name: match for name in names[1:] if (match := _CHART.fullmatch(name))}
    spread = [name for name in found if name.endswith(("__MIN", "__MAX"))]
    if not spread or len(found) + 2 < len(names):
        return None
    step = names[0]
    parts = []
    for name, match in found.items():
        if match[3]:
            continue
        part = frame[[step, FILE, LINE]].assign(Name=match[1])
        part[match[2]] = frame[name]
        parts.append(part.loc[frame[name].notna()].astype(object))
    long = pd.concat(parts, ignore_index=True)
    # several metrics of one run and step lie in rows of their own until they are put together
    long = long.groupby(["Name", step], sort=False, dropna=False).first().reset_index()
    runs = plural(long["Name"].nunique(), "run")
    return KnownTable(long.astype(object), f"the data of a W&B chart ({runs})", last=step)


def _wandb(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    wandb = {"Name", "State"} <= set(names) or (
        "Name" in names and len({"Created", "Runtime", "Sweep", "Tags", "User"} & set(names)) > 1
    )
    if not wandb:
        return None
    where = _ended_well(frame, "State", "finished")
    created = "Created" if "Created" in names else ""
    return KnownTable(frame, "a W&B export of runs", where=where, created=created)


def _wandb_api(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    """What W&B's documentation writes with its API: the columns ``summary``, ``config`` and ``name``."""
    import pandas as pd

    if not {"summary", "config"} <= set(names):
        return None
    parts = [
        pd.DataFrame(
            [{f"{column}.{k}": v for k, v in flat(_mapping(cell)).items()} for cell in cells],
            dtype=object,
        )
        for column, cells in (("summary", frame["summary"]), ("config", frame["config"]))
    ]
    rest = frame.drop(columns=["summary", "config"]).reset_index(drop=True)
    wide = pd.concat([rest, *parts], axis=1).astype(object)
    where = _ended_well(wide, "state", "finished")
    return KnownTable(
        wide.where(wide.notna(), None),
        "runs from the W&B API, as its documentation saves them",
        where,
    )


def _mapping(cell: object) -> dict[str, Any]:
    """A cell that holds an object as Python or JSON writes it."""
    if isinstance(cell, dict):
        return cell
    text = text_of(cell)
    for read in (json.loads, ast.literal_eval):
        for form in (text, _NAN.sub("None", text)):
            try:
                value = read(form)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(value, dict):
                return value
    return {}


def _mlflow(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    api = "run_id" in names and any(name.startswith("metrics.") for name in names)
    page = "Run ID" in names and "Status" in names
    if not (api or page):
        return None
    status = "status" if "status" in names else "Status"
    created = next((name for name in ("start_time", "Start Time", "Created") if name in names), "")
    where = _ended_well(frame, status, "FINISHED")
    return KnownTable(frame, "an MLflow table of runs", where=where, created=created)


def _optuna(frame: pd.DataFrame, names: Sequence[str]) -> KnownTable | None:
    if not {"number", "state"} <= set(names) or not any(n.startswith("params_") for n in names):
        return None
    where = _ended_well(frame, "state", "COMPLETE")
    return KnownTable(
        frame,
        "Optuna trials",
        where=where,
        created="datetime_start" if "datetime_start" in names else "",
    )


def _ended_well(frame: pd.DataFrame, column: str, good: str) -> tuple[str, ...]:
    """A condition for the runs that ended well, where there are others."""
    if column not in frame.columns:
        return ()
    states = set(map(text_of, frame[column]))
    return (f"{column}={good}",) if good in states and len(states) > 1 else ()


_NAMES = frozenset(
    {"name", "run", "run_name", "experiment", "exp", "exp_name", "file", "folder", "key", "model"}
)
_SEEDS = frozenset({"seed", "random_seed", "rng_seed", "trial_seed", "pair"})
_NAME_AND_SEED = re.compile(
    r"(.+?)[-_., ]*[-_., (](?:seed|s|run|trial|rep|fold|v|version)?[-_=. ]?(\d{1,6})\)?",
    re.IGNORECASE,
)


def with_name_parts(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Take names such as ``mixup-s3`` apart, where no column holds seeds and the numbers recur; return what was done."""
    own = [str(name) for name in frame.columns if name not in (FILE, LINE)]
    if any(re.split(r"[./]", name.lower())[-1] in _SEEDS for name in own):
        return frame, ()
    for name in own:
        if name.lower() not in _NAMES:
            continue
        texts = [text_of(cell) for cell in frame[name]]
        matches = {text: _NAME_AND_SEED.fullmatch(text) for text in dict.fromkeys(texts)}
        if len(matches) < 4 or not all(matches.values()):
            continue
        stems = {match[1] for match in matches.values() if match}
        numbers = {match[2] for match in matches.values() if match}
        if len(stems) < 2 or len(numbers) * 2 > len(matches) or len(stems) * 2 > len(matches):
            continue
        parts = [matches[text] for text in texts]
        frame = frame.assign(
            **{
                f"{name}.name": [m[1] for m in parts if m],
                f"{name}.seed": [m[2] for m in parts if m],
            }
        )
        return frame, (f"{name} was taken apart into {name}.name and {name}.seed",)
    return frame, ()


def by_epoch(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Return one run's rows with those of one epoch put together, where training and validation have rows of their own.

    Lightning's CSV logger writes them so. None for a table that is no such log.
    """
    names = [str(name) for name in frame.columns if name not in (FILE, LINE)]
    clock: Callable[[Any], bool] = {"epoch", "step"}.issubset
    if not clock(names) or len(names) < 3 or frame["epoch"].isna().any():
        return None
    try:
        epochs = frame["epoch"].map(float)
        figures = [n for n in names if n not in ("epoch", "step")]
        for name in figures:
            frame[name].dropna().map(float)
    except (TypeError, ValueError):
        return None
    gaps = frame[figures].isna().any(axis=1)
    if not epochs.is_monotonic_increasing or not gaps.any() or not epochs.duplicated().any():
        return None
    return frame.groupby(epochs.to_numpy(), sort=False).last().reset_index(drop=True).astype(object)
