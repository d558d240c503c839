"""What one run says about overfitting: the gap, the epoch at which validation loss turns up, and what to try next.

One run is no verdict: it names the study that would give one. The thresholds are rules of thumb,
stated where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.epoch_history import History, read_history
from harness.errors import UsageError
from harness.text import plural

if TYPE_CHECKING:
    from harness.analysis.epoch_history import Records

SMALL_GAP_PP = 2.0  # below this there is little that regularisation could win
# clean training accuracy below which a net has not learned its training images by heart
LOW_TRAIN = 0.9
# share by which validation loss fell over the last tenth of the epochs for more epochs to be worth
# trying
STILL_FALLING = 0.01
_LOSS_GAP = 0.1  # nats; where there are no accuracies


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a history says.

    Attributes:
        epochs: how many it has.
        gap_pp: train minus validation accuracy after the last epoch, in percentage points.
        loss_gap: validation minus train loss after the last epoch, in nats.
        onset_epoch: epoch, counted from 1, of the lowest smoothed validation loss when it rises by more than 2 % after it.
        best_epoch: epoch, counted from 1, of the best validation accuracy, or of the lowest loss.
        kind: broken, overfits, underfits, unfinished or fits.
        sentence: all of that in words.
        study: built-in study that would settle what to do.
        command: what to type to run it.
    """

    epochs: int
    gap_pp: float | None
    loss_gap: float | None
    onset_epoch: int | None
    best_epoch: int
    kind: str
    sentence: str
    study: str
    command: str

    def __str__(self) -> str:
        return f"{self.sentence}\nnext: {self.command}"


def diagnose(history: Records | Path | str, keys: Mapping[str, str] | None = None) -> Diagnosis:
    """Say whether an epoch history overfits, and which study to run next.

    Args:
        history: one dictionary an epoch, as ``fit_one_cycle`` returns it, one sequence a key
            (Keras, a DataFrame), or the path of a file or folder that holds one run: CSV, JSON,
            ``trainer_state.json``, event files, or whatever ``harness analyze`` reads.
        keys: ``{"val_accuracy": "top1", ...}`` for keys of other names; ours are train_loss,
            train_accuracy, val_loss and val_accuracy. Accuracies may be shares or percent.

    Raises:
        UsageError: there is no epoch, no validation column, or a value is no number.
        ReportError: a file is missing or unreadable.
    """
    from harness.stats import onset_epoch

    read = read_history(_records(history), keys)
    accuracies, losses = (
        _last(read, "train_accuracy", "val_accuracy"),
        _last(read, "val_loss", "train_loss"),
    )
    gap = None if accuracies is None else accuracies[0] - accuracies[1]
    loss_gap = None if losses is None else losses[0] - losses[1]
    val_loss = read.present("val_loss")
    onset = onset_epoch([loss for _, loss in val_loss])
    onset = None if onset is None else val_loss[onset][0]
    best = _best(read)
    gap_pp = None if gap is None else 100.0 * gap
    kind = _kind(read, gap_pp, loss_gap, onset)
    study, advice = _NEXT[kind]
    parts = [_gap_words(read, accuracies, loss_gap), _onset_words(read, onset), advice]
    if gap_pp is not None and not read.clean:
        parts.insert(
            1,
            "training accuracy was seen during training, under augmentation and dropout: the clean gap is larger",
        )
    if kind == "broken":
        parts = ["the validation loss stopped being a finite number", advice]
    sentence = "; ".join(part for part in parts if part)
    return Diagnosis(
        epochs=len(read),
        gap_pp=gap_pp,
        loss_gap=loss_gap,
        onset_epoch=onset,
        best_epoch=best,
        kind=kind,
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        study=study,
        command=f"harness ablate --study {study}",
    )


def _records(history: Records | Path | str) -> Records:
    """A history as it was given, or the rows of the file that was named."""
    if not isinstance(history, (str, Path)):
        return history
    from harness.analysis.sources import FILE, LINE, read_source

    source = read_source([history])
    if len(source.frame[FILE].unique()) > 1:
        raise UsageError(
            f"{history} holds several runs, and a diagnosis is of one",
            "name the file of one run; `harness analyze` compares several",
        )
    rows = source.frame.drop(columns=[FILE, LINE]).to_dict("records")
    return [{str(key): cell for key, cell in row.items() if cell is not None} for row in rows]


_NEXT = {
    "broken": ("schedule", "lower the highest learning rate before anything else"),
    "overfits": ("augmentations", "which augmentations close the gap is the first thing to settle"),
    "underfits": (
        "blocks",
        "the net does not learn its training images by heart, so size and rate come before regularisation",
    ),
    "unfinished": (
        "schedule",
        "validation loss was still falling, so a longer or faster schedule comes first",
    ),
    "fits": ("claims", "there is little left to close, so the question is which parts could go"),
}


def _kind(read: History, gap_pp: float | None, loss_gap: float | None, onset: int | None) -> str:
    val_loss = [loss for _, loss in read.present("val_loss")]
    if val_loss and not math.isfinite(val_loss[-1]):
        return "broken"
    wide = gap_pp >= SMALL_GAP_PP if gap_pp is not None else (loss_gap or 0.0) >= _LOSS_GAP
    if onset is not None or wide:
        return "overfits"
    if _still_falling(val_loss):
        return "unfinished"
    train = read.present("train_accuracy")
    if train and train[-1][1] < LOW_TRAIN:
        return "underfits"
    return "fits"


def _still_falling(val_loss: Sequence[float]) -> bool:
    span = max(1, len(val_loss) // 10)
    return len(val_loss) > span and val_loss[-1] < (1.0 - STILL_FALLING) * val_loss[-1 - span]


def _best(read: History) -> int:
    """The epoch, from 1, of the best validation accuracy; without accuracies of the lowest loss. The first of equals."""
    scores = read.present("val_accuracy") or [
        (epoch, -loss) for epoch, loss in read.present("val_loss")
    ]
    finite = {epoch: score for epoch, score in scores if math.isfinite(score)}
    return max(finite, key=lambda epoch: (finite[epoch], -epoch), default=1)


def _last(read: History, first: str, second: str) -> tuple[float, float] | None:
    """Return two figures of the last epoch that has both, or else the last of each; None where one is missing or broken."""
    one, other = dict(read.present(first)), dict(read.present(second))
    if not one or not other:
        return None
    both = max(one.keys() & other.keys(), default=None)
    pair = (one[max(one)], other[max(other)]) if both is None else (one[both], other[both])
    return pair if all(map(math.isfinite, pair)) else None


def _gap_words(
    read: History, accuracies: tuple[float, float] | None, loss_gap: float | None
) -> str:
    end = f"after {plural(len(read), read.unit)}"
    if accuracies is not None:
        train, val = (100 * share for share in accuracies)
        digits = 2 if max(train, val) >= 99.5 else 1  # 99.95 % is not 100 %
        parts = f"{train:.{digits}f} % train, {val:.{digits}f} % validation"
        return f"{end} the gap is {train - val:.{digits}f} pp ({parts})"
    if loss_gap is not None:
        side = "above" if loss_gap >= 0 else "below"
        return f"{end} validation loss is {abs(loss_gap):.3f} {side} training loss"
    return f"{end} there are no training figures to take a gap from"


def _onset_words(read: History, onset: int | None) -> str:
    if len(read.present("val_loss")) < 2:  # nothing turns up after one figure
        return ""
    return (
        f"validation loss turns up after {read.unit} {onset}"
        if onset
        else f"validation loss does not turn up by {read.unit} {len(read)}"
    )
