"""What a training script of the user's leaves behind: ``metrics.json``, and ``history.csv`` if it likes.

``metrics.json`` is one object. ``accuracy`` and the other built-in metrics are shares in [0, 1];
any other number is a metric under its own name; what is no number is left alone. ``train_accuracy``
gives the overfitting gap. ``history.csv`` has one row an epoch and columns under the names that
``harness.analysis.epoch_history`` knows.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.epoch_history import read_history
from harness.errors import TrialError, UsageError
from harness.study.study import Study
from harness.study.trial import METRICS, Curve

METRICS_FILE, HISTORY_FILE = "metrics.json", "history.csv"
_GAPS = (("gap", "accuracy", "train_accuracy", 1.0), ("loss_gap", "nll", "train_nll", -1.0))


@dataclass(frozen=True, slots=True)
class Results:
    """What a run came to.

    Attributes:
        metrics: by name; accuracies in [0, 1].
        curve: as far as the history tells.
        epochs: rows of the history; 0 without one.
        diverged: which number is not finite, in a sentence; empty for a sound run.
    """

    metrics: dict[str, float]
    curve: Curve
    epochs: int
    diverged: str = ""


def read_results(out: Path, study: Study, returned: Mapping[str, float] | None = None) -> Results:
    """Read what a run left in its folder.

    Args:
        out: the folder.
        study: whose metric has to be there, and whose shares have to be some.
        returned: metrics that stand in for metrics.json.

    Raises:
        TrialError: there are no metrics, they lack the one that decides, or a value cannot be.
    """
    given = _metrics_file(out) if returned is None else returned
    if not isinstance(given, Mapping):
        raise TrialError(
            f"its metrics are a {type(given).__name__}, not an object of names and numbers"
        )
    numbers = {str(name): float(value) for name, value in given.items() if _is_number(value)}
    broken = next((name for name, value in numbers.items() if not math.isfinite(value)), "")
    curve, epochs = _history(out)
    if broken:
        return Results({}, curve, epochs, f"{broken} is not a finite number")
    for gap, score, on_train, sign in _GAPS:
        if score in numbers and on_train in numbers:
            numbers.setdefault(gap, sign * (numbers[on_train] - numbers[score]))
    metric = study.metric
    if metric not in numbers:
        there = f"it has {', '.join(map(str, given)) or 'nothing'}"
        told = (
            f"holds {given[metric]!r} as {metric!r}, which is no number"
            if metric in given
            else f"has no {metric!r}; {there}"
        )
        raise TrialError(f"{METRICS_FILE} {told}")
    units = {name: known.unit for name, known in METRICS.items()} | {
        name: rule.unit for name, rule in study.metrics.items()
    }
    for name, value in numbers.items():
        if units.get(name) == "pp" and not (-1.0 if "gap" in name else 0.0) <= value <= 1.0:
            raise TrialError(
                f"{METRICS_FILE}: {name} is {value:g} and should be a share between 0 and 1"
            )
    return Results(numbers, curve, epochs)


def _is_number(value: object) -> bool:
    """Whether a value is a number; numpy's and torch's scalars say so by ``__float__`` and are no text."""
    return (
        not isinstance(value, (bool, str))
        and hasattr(value, "__float__")
        and getattr(value, "ndim", 0) == 0
    )


def _metrics_file(out: Path) -> Any:
    try:
        return json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrialError(
            f"wrote no {METRICS_FILE} into the folder that HARNESS_OUT names"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise TrialError(f"its {METRICS_FILE} cannot be read: {error}") from None


def _history(out: Path) -> tuple[Curve, int]:
    """Return the epoch history as a curve, and its number of epochs; nothing without a file."""
    path = out / HISTORY_FILE
    if not path.is_file():
        return Curve(), 0
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        named = [{str(key): value or None for key, value in row.items() if key} for row in rows]
        history = read_history(named)
    except UsageError as error:
        raise TrialError(f"{HISTORY_FILE}: {error.message}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise TrialError(f"its {HISTORY_FILE} cannot be read: {error}") from None
    # what was seen during training is no clean accuracy
    seen = "train" if history.clean else "online"
    columns = {
        "val_loss": history.column("val_loss"),
        "val_accuracy": history.column("val_accuracy"),
        f"{seen}_loss": history.column("train_loss"),
        f"{seen}_accuracy": history.column("train_accuracy"),
    }
    return Curve(**columns), len(history)
