"""Epoch histories of any training script: a list of dictionaries or a table of columns, brought under our names.

Our names: ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy``; losses in nats,
accuracies in [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    Records = Iterable[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | pd.DataFrame

NAMES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
_MOST_SHARE = 1.5  # beyond this a column of accuracies is in percent

# What widely used loops call the same things, tried in this order; a key map says what else they
# are called. The last of each were seen during training, under augmentation and dropout. Names are
# compared without case and with _ for / . and -.
_ALSO = {
    "train_loss": ("train_loss", "train_loss_epoch", "training_loss", "online_loss", "loss"),
    "train_accuracy": (
        "train_accuracy",
        "train_acc",
        "train_acc_epoch",
        "train_accuracy_epoch",
        "training_accuracy",
        "online_accuracy",
        "accuracy",
        "acc",
    ),
    "val_loss": (
        "val_loss",
        "valid_loss",
        "validation_loss",
        "eval_loss",
        "dev_loss",
        "val_loss_epoch",
    ),
    "val_accuracy": (
        "val_accuracy",
        "val_acc",
        "valid_accuracy",
        "valid_acc",
        "validation_accuracy",
        "validation_acc",
        "eval_accuracy",
        "eval_acc",
        "dev_accuracy",
        "dev_acc",
        "val_acc_epoch",
        "val_accuracy_epoch",
    ),
}
# names under which loops keep figures seen in training
_DURING = ("online_loss", "loss", "online_accuracy", "accuracy", "acc")
_EPOCH = ("epoch", "epochs", "epoch_number")
_STEP = ("step", "global_step", "iteration", "iter", "steps", "it", "trainer_global_step")
# of a row that holds one part's figures
_PHASE = ("phase", "split", "stage", "mode", "part", "subset")
_PHASES = {
    **dict.fromkeys(("train", "training", "fit"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "summary", "final"), "test"),
}
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """Epoch columns under our names, each of one number an epoch, None where the epoch has none, or empty.

    Attributes:
        train_loss, val_loss: cross-entropy in nats; not a number from where training broke.
        train_accuracy, val_accuracy: in [0, 1].
        keys: ``{our name: the key it was read from}``.
        clean: whether training figures come from keys that say nothing of being seen during training.
        numbers: of the epochs, from 1.
        unit: what a row is: an epoch, or an evaluation where the log counts steps.
    """

    train_loss: tuple[float | None, ...] = ()
    train_accuracy: tuple[float | None, ...] = ()
    val_loss: tuple[float | None, ...] = ()
    val_accuracy: tuple[float | None, ...] = ()
    keys: Mapping[str, str] | None = None
    clean: bool = True
    numbers: tuple[int, ...] = ()
    unit: str = "epoch"

    def __len__(self) -> int:
        """Return how many epochs there were, those without a row included."""
        return self.numbers[-1] if self.numbers else 0

    def present(self, name: str) -> list[tuple[int, float]]:
        """Return (epoch from 1, value) of a column where it has a value."""
        column: tuple[float | None, ...] = getattr(self, name)
        return [
            (number, value)
            for number, value in zip(self.numbers, column, strict=False)
            if value is not None
        ]

    def column(self, name: str) -> tuple[float, ...]:
        """Return a column with one number for each epoch from the first, nan where there is none; empty without any."""
        values = dict(self.present(name))
        return (
            tuple(values.get(epoch, math.nan) for epoch in range(1, len(self) + 1))
            if values
            else ()
        )


def history_frame(history: Records) -> pd.DataFrame:
    """Return a history as a table, one row an epoch; columns of lists (``lrs``, of every step) are left out.

    Raises:
        UsageError: it holds no epoch.
    """
    import pandas as pd

    columns = {
        key: values for key, values in _columns(history).items() if not any(map(_is_list, values))
    }
    return pd.DataFrame(columns)


def read_history(history: Records, keys: Mapping[str, str] | None = None) -> History:
    """Bring a history under our names.

    Args:
        history: one dictionary an epoch, or one sequence a key (as Keras' ``History.history``, or a
            DataFrame).
        keys: ``{our name: its key}`` for keys that are not found by themselves.

    Raises:
        UsageError: it holds no epoch, a key does not exist, a value is no number, or there is
            nothing to read.
    """
    rows = _by_phase(_rows(history))
    names = list(dict.fromkeys(key for row in rows for key in row))
    wanted = _wanted(rows, names, dict(keys or {}))
    numbers, grouped, unit = _grouped(rows, wanted)
    read = {
        name: _numbers(name, key, [row.get(key) for row in grouped]) for name, key in wanted.items()
    }
    train_key = _plain(wanted.get("train_accuracy", wanted.get("train_loss", "")))
    return History(
        **_without_gaps(read),
        keys=wanted,
        clean=train_key not in _DURING,
        numbers=numbers,
        unit=unit,
    )


def _wanted(rows: Sequence[_Row], names: Sequence[str], wanted: dict[str, str]) -> dict[str, str]:
    """Return ``{our name: the key to read}``."""
    for name, key in wanted.items():
        if name not in NAMES:
            raise UsageError(
                f"keys: there is no {name!r}{did_you_mean(name, NAMES)}",
                f"our names: {', '.join(NAMES)}",
            )
        if key not in names:
            there = f"its keys: {', '.join(names)}"
            raise UsageError(f"the history has no key {key!r}{did_you_mean(key, names)}", there)
    counts = {key: sum(not _is_absent(row.get(key)) for row in rows) for key in names}
    for name, candidates in _ALSO.items():
        alike = [key for word in candidates for key in names if _plain(key) == word]
        known = [key for key in alike if counts[key]]
        if not known and name == "val_loss":  # it may never have been a number
            known = [key for key in alike if any(row.get(key) is not None for row in rows)]
        # a summary may carry a single figure under a name that comes first
        often = [key for key in known if counts[key] > 1] or known
        if often:
            wanted.setdefault(name, often[0])
    if not {"val_loss", "val_accuracy"} & set(wanted):
        raise UsageError(
            f"no key of the history names a validation loss or accuracy: {', '.join(names)}",
            'say which key it is, for example keys={"val_accuracy": "top1"}',
        )
    return wanted


def _rows(history: Records) -> list[_Row]:
    columns = _columns(history)
    count = max(map(len, columns.values()))
    return [
        {key: values[i] for key, values in columns.items() if values[i] is not None}
        for i in range(count)
    ]


def _by_phase(rows: list[_Row]) -> list[_Row]:
    """Put the phase that a row names before its keys: ``{"phase": "val", "loss": 1.0}`` holds a ``val_loss``."""
    names = {key for row in rows for key in row}
    column = next(
        (key for key in names if _plain(key) in _PHASE and _names_phases(rows, key)), None
    )
    if column is None:
        return rows
    count = (*_EPOCH, *_STEP)
    renamed = []
    for row in rows:
        phase = _PHASES[str(row[column]).lower()] if column in row else ""
        kept = {key: value for key, value in row.items() if key != column}
        bare = {
            key: key
            if not phase or _plain(key) in count or _plain(key).startswith(phase)
            else f"{phase}_{key}"
            for key in kept
        }
        renamed.append({bare[key]: value for key, value in kept.items()})
    return renamed


def _names_phases(rows: Sequence[_Row], key: str) -> bool:
    return all(
        isinstance(row[key], str) and row[key].lower() in _PHASES for row in rows if key in row
    )


def _grouped(
    rows: Sequence[_Row], wanted: Mapping[str, str]
) -> tuple[tuple[int, ...], list[_Row], str]:
    """Return the numbers of the epochs from 1, one row for each, and what such a row is called."""
    rows = _without_summary(rows, wanted)
    for keys, unit in ((_EPOCH, "epoch"), (_STEP, "evaluation")):
        column = next(
            (key for row in rows for key in row if _plain(key) in keys and _is_number(row[key])),
            None,
        )
        if column is not None:
            # a row without one is a summary
            counted = [row for row in rows if _is_number(row.get(column))]
            if unit == "epoch":
                return *_by_epoch(counted, column, wanted), unit
            groups = _by_evaluation(counted, column, wanted)
            return tuple(range(1, len(groups) + 1)), groups, unit
    epochs: list[_Row] = []
    # a figure that the last row has already begins an epoch; else it is another phase of the same
    for row in rows:
        figures = [key for key in wanted.values() if _has(row, key)]
        if not epochs or not figures or any(_has(epochs[-1], key) for key in figures):
            epochs.append({})
        epochs[-1].update(
            {
                key: value
                for key, value in row.items()
                if key not in epochs[-1] or not _is_absent(value)
            }
        )
    return tuple(range(1, len(epochs) + 1)), epochs, "epoch"


def _by_epoch(
    rows: Sequence[_Row], column: str, wanted: Mapping[str, str]
) -> tuple[tuple[int, ...], list[_Row]]:
    """Group rows by the number of their epoch; a fraction belongs to the epoch that it is in."""
    values = [float(row[column]) for row in rows]
    whole = all(value == int(value) for value in values)
    from_zero = 1 if whole and min(values, default=1) == 0 else 0
    groups: dict[int, list[_Row]] = {}
    for row, value in zip(rows, values, strict=True):
        groups.setdefault(max(math.ceil(value) + from_zero, 1), []).append(row)
    return tuple(sorted(groups)), [_merged(groups[number], wanted) for number in sorted(groups)]


def _by_evaluation(rows: Sequence[_Row], column: str, wanted: Mapping[str, str]) -> list[_Row]:
    """Group the rows of a log of steps by the evaluation that they lead to."""
    val = [key for name, key in wanted.items() if name.startswith("val")]
    groups: list[list[_Row]] = []
    at, over = None, True
    for row in rows:
        if over and row[column] != at:
            groups.append([])
            over = False
        groups[-1].append(row)
        at, over = row[column], over or any(_has(row, key) for key in val)
    return [
        _merged(group, wanted)
        for group in groups
        if any(_has(row, key) for row in group for key in val)
    ]


def _merged(rows: Sequence[_Row], wanted: Mapping[str, str]) -> _Row:
    """Return one row for several: the last of each figure, the mean of what was logged several times during training."""
    merged = {key: value for row in rows for key, value in row.items() if not _is_absent(value)}
    for name, key in wanted.items():
        seen = [
            float(row[key]) for row in rows if name.startswith("train") and _is_number(row.get(key))
        ]
        if len(seen) > 1:
            merged[key] = sum(seen) / len(seen)
        elif key not in merged and any(key in row for row in rows):
            merged[key] = math.nan
    return merged


def _without_summary(rows: Sequence[_Row], wanted: Mapping[str, str]) -> Sequence[_Row]:
    """Leave out a last row that has none of our figures."""
    last = rows[-1]
    return rows[:-1] if len(rows) > 1 and not any(key in last for key in wanted.values()) else rows


def _without_gaps(read: dict[str, tuple[float | None, ...]]) -> dict[str, tuple[float | None, ...]]:
    """Tell epochs without a figure, which tables hold as NaN, from a figure that stopped being a number."""
    clean = {}
    for name, values in read.items():
        finite = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
        last = finite[-1] if finite else -1
        gaps = any(value is None or math.isnan(value) for value in values[: max(last, 0)])
        others = [column for other, column in read.items() if other != name]

        def alive(i: int, others: Sequence[tuple[float | None, ...]] = others) -> bool:
            row = [column[i] for column in others]
            return any(value is not None and math.isfinite(value) for value in row)

        clean[name] = tuple(
            None
            if value is not None
            and math.isnan(value)
            and (i < last or (gaps and last >= 0 and alive(i)))
            else value
            for i, value in enumerate(values)
        )
    return clean


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _has(row: _Row, key: str) -> bool:
    return not _is_absent(row.get(key))


def _is_number(value: object) -> bool:
    """Whether a value is a finite number, or a text of one as CSV files hold them."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _columns(history: Records) -> dict[str, list[Any]]:
    """One list of values a key, as long as there are epochs; None where an epoch lacks the key."""
    content: Any = history
    if hasattr(content, "to_dict"):  # a DataFrame, without importing pandas
        content = content.to_dict("list")
    if isinstance(content, Mapping):
        columns = {str(key): list(values) for key, values in content.items() if _is_list(values)}
        columns = _spread(columns)
        if len({len(values) for values in columns.values()}) > 1:
            raise UsageError(
                "the history's columns differ in length", "give every key one value an epoch"
            )
    else:
        epochs = list(content)
        if not all(isinstance(epoch, Mapping) for epoch in epochs):
            raise UsageError(
                "a history is one dictionary an epoch, or one list a key",
                "for example what fit_one_cycle returns",
            )
        names = dict.fromkeys(str(key) for epoch in epochs for key in epoch)
        columns = {name: [epoch.get(name) for epoch in epochs] for name in names}
    if not any(columns.values()):
        raise UsageError("the history holds no epoch", "train for at least one epoch")
    return columns


def _spread(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Put validation figures at the epochs that they were taken at, where Keras' ``validation_freq`` left some out."""
    val = {key for key in columns if _plain(key).startswith(("val", "eval"))}
    lengths = [{len(columns[key]) for key in keys} for keys in (val, columns.keys() - val)]
    if any(len(sizes) != 1 for sizes in lengths):
        return columns
    (taken,), (epochs,) = lengths
    every = epochs // taken if taken else 0
    if taken >= epochs or not every or epochs // every != taken:
        return columns
    spread = dict(columns)
    for key in val:
        spread[key] = [None] * epochs
        spread[key][every - 1 : every * taken : every] = columns[key]
    return spread


def _numbers(name: str, key: str, values: Sequence[Any]) -> tuple[float | None, ...]:
    try:
        numbers = tuple(None if value is None else float(value) for value in values)
    except (TypeError, ValueError):
        raise UsageError(
            f"key {key!r} of the history should hold one number an epoch",
            "convert tensors with .item()",
        ) from None
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    if not name.endswith("accuracy"):
        return numbers
    if finite and (min(finite) < 0 or max(finite) > 100):
        raise UsageError(
            f"key {key!r} runs from {min(finite):g} to {max(finite):g}, which is no accuracy",
            "name another key",
        )
    percent = bool(finite) and max(finite) > _MOST_SHARE
    return (
        tuple(None if number is None else number / 100.0 for number in numbers)
        if percent
        else numbers
    )


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (
        hasattr(value, "__len__") and not isinstance(value, (str, bytes, Mapping))
    )
