"""Epoch histories of any training script: a list of dictionaries or a table of columns, brought under our names.

Our names: ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy``; losses in nats, accuracies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    Records = Iterable[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | pd.DataFrame

NAMES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
_MOST_SHARE = 1.5  # beyond this a column of accuracies is in percent

# What widely used loops call the same things, tried in this order; a key map says what else they are called. The last of each
# were seen during training, under augmentation and dropout.
_ALSO = {
    "train_loss": ("train_loss", "online_loss", "loss"),
    "train_accuracy": ("train_accuracy", "train_acc", "online_accuracy", "accuracy", "acc"),
    "val_loss": ("val_loss", "valid_loss", "validation_loss"),
    "val_accuracy": ("val_accuracy", "val_acc", "valid_accuracy", "valid_acc", "validation_accuracy"),
}
_DURING = ("online_loss", "loss", "online_accuracy", "accuracy", "acc")  # names under which loops keep figures seen in training


@dataclass(frozen=True, slots=True)
class History:
    """Epoch columns under our names, each of one number an epoch or empty.

    Attributes:
        train_loss, val_loss: cross-entropy in nats; not a number from where training broke.
        train_accuracy, val_accuracy: in [0, 1].
        keys: ``{our name: the key it was read from}``.
        clean: whether training figures come from keys that say nothing of being seen during training.
    """

    train_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_accuracy: tuple[float, ...] = ()
    keys: Mapping[str, str] | None = None
    clean: bool = True

    def __len__(self) -> int:
        return max(len(self.val_loss), len(self.val_accuracy))


def history_frame(history: Records) -> pd.DataFrame:
    """Return a history as a table, one row an epoch; columns of lists (``lrs``, of every step) are left out.

    Raises:
        UsageError: it holds no epoch.
    """
    import pandas as pd

    columns = {key: values for key, values in _columns(history).items() if not any(map(_is_list, values))}
    return pd.DataFrame(columns)


def read_history(history: Records, keys: Mapping[str, str] | None = None) -> History:
    """Bring a history under our names.

    Args:
        history: one dictionary an epoch, or one sequence a key (as Keras' ``History.history``, or a DataFrame).
        keys: ``{our name: its key}`` for keys that are not found by themselves.

    Raises:
        UsageError: it holds no epoch, a key does not exist, a value is no number, or there is nothing to read.
    """
    columns = _columns(history)
    wanted = dict(keys or {})
    for name, key in wanted.items():
        if name not in NAMES:
            raise UsageError(f"keys: there is no {name!r}{did_you_mean(name, NAMES)}", f"our names: {', '.join(NAMES)}")
        if key not in columns:
            there = f"its keys: {', '.join(columns)}"
            raise UsageError(f"the history has no key {key!r}{did_you_mean(key, columns)}", there)
    for name, candidates in _ALSO.items():
        found = next((key for key in candidates if any(value is not None for value in columns.get(key, ()))), None)
        if found is not None:
            wanted.setdefault(name, found)
    if not {"val_loss", "val_accuracy"} & set(wanted):
        raise UsageError(
            f"the history has no validation loss or accuracy that could be told by its name ({', '.join(columns)})",
            'say which key it is, for example keys={"val_accuracy": "top1"}',
        )
    read = {name: _numbers(name, key, columns[key]) for name, key in wanted.items()}
    train_key = wanted.get("train_accuracy", wanted.get("train_loss", ""))
    return History(**read, keys=wanted, clean=train_key not in _DURING)


def _columns(history: Records) -> dict[str, list[Any]]:
    """One list of values a key, as long as there are epochs; None where an epoch lacks the key."""
    told: Any = history
    if hasattr(told, "to_dict"):  # a DataFrame, without importing pandas
        told = told.to_dict("list")
    if isinstance(told, Mapping):
        columns = {str(key): list(values) for key, values in told.items() if _is_list(values)}
        if len({len(values) for values in columns.values()}) > 1:
            raise UsageError("the history's columns differ in length", "give every key one value an epoch")
    else:
        epochs = list(told)
        if not all(isinstance(epoch, Mapping) for epoch in epochs):
            raise UsageError(
                "a history is one dictionary an epoch, or one list a key", "for example what fit_one_cycle returns"
            )
        names = dict.fromkeys(str(key) for epoch in epochs for key in epoch)
        columns = {name: [epoch.get(name) for epoch in epochs] for name in names}
    if not any(columns.values()):
        raise UsageError("the history holds no epoch", "train for at least one epoch")
    return columns


def _numbers(name: str, key: str, values: Sequence[Any]) -> tuple[float, ...]:
    try:
        numbers = tuple(math.nan if value is None else float(value) for value in values)
    except (TypeError, ValueError):
        raise UsageError(
            f"key {key!r} of the history should hold one number an epoch", "convert tensors with .item()"
        ) from None
    finite = [number for number in numbers if math.isfinite(number)]
    if not name.endswith("accuracy"):
        return numbers
    if finite and (min(finite) < 0 or max(finite) > 100):
        raise UsageError(f"key {key!r} runs from {min(finite):g} to {max(finite):g}, which is no accuracy", "name another key")
    percent = bool(finite) and max(finite) > _MOST_SHARE
    return tuple(number / 100.0 for number in numbers) if percent else numbers


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (hasattr(value, "__len__") and not isinstance(value, (str, bytes, Mapping)))
