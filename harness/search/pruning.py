"""The pruner of a search, and what a pruner would have done to recorded curves.

One-cycle curves cross until late: the rank correlation of an epoch's accuracy with the last one's was .82 at epoch 4 of 30, .52
at 15 and .92 at 27. So the median pruner waits for 70 % of the epochs, and looks once a trial: the rest is not worth saving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, MedianPruner
from optuna.trial import FrozenTrial, TrialState

from harness.ledger.pruning import Hopeless

STARTUP = 5  # complete trials that a median is taken over, at least


def late_median(epochs: int, *, warmup: float = 0.7) -> MedianPruner:
    """Return the median pruner that begins after ``warmup`` of the epochs."""
    return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=math.ceil(warmup * epochs))


class SearchPruner(Hopeless):
    """Stops what is hopeless, and late what is below the median of the complete trials; the reference only when hopeless.

    Args:
        chance: as ``Hopeless`` takes it.
        epochs: of every trial of the search.
        warmup: share of the epochs before which nothing is compared; None compares nothing.
        reference: key of the slot that the reference has: its score is wanted whatever it is.
    """

    def __init__(self, chance: float, epochs: Mapping[str, int], *, warmup: float | None, reference: str) -> None:
        super().__init__(chance, epochs)
        self._warmup, self._reference = warmup, reference

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should stop."""
        if super().prune(study, trial):
            return True
        if self._warmup is None or trial.user_attrs.get("cell") == self._reference:
            return False
        return bool(late_median(self._epochs(trial), warmup=self._warmup).prune(study, trial))


@dataclass(frozen=True, slots=True)
class Replay:
    """What a pruner did to recorded curves.

    Attributes:
        stopped: epochs after which each curve was stopped; None for one that ran to its end.
        saved: share of all epochs that were not run.
        lost: share of the finally best tenth that was stopped.
    """

    stopped: tuple[int | None, ...]
    saved: float
    lost: float


def replay(curves: Sequence[Sequence[float]], pruner: BasePruner, *, every: int = 1) -> Replay:
    """Run recorded accuracy curves past a pruner, one after the other, in their order.

    Args:
        curves: validation accuracy by epoch, all of one length.
        pruner: asked after each reported epoch.
        every: epochs between two reports; the last one is always reported.
    """
    study = optuna.create_study(direction="maximize", pruner=pruner)
    stopped: list[int | None] = []
    for curve in curves:
        trial, end = study.ask(), None
        for epoch, value in enumerate(curve):
            if (epoch + 1) % every and epoch + 1 < len(curve):
                continue
            trial.report(value, epoch)
            if epoch + 1 < len(curve) and trial.should_prune():
                end = epoch + 1
                break
        study.tell(trial, None if end else curve[-1], state=TrialState.PRUNED if end else TrialState.COMPLETE)
        stopped.append(end)
    total = sum(len(curve) for curve in curves)
    run = sum(end or len(curve) for end, curve in zip(stopped, curves, strict=True))
    ranked = sorted(range(len(curves)), key=lambda i: -curves[i][-1])
    top = ranked[: max(1, math.ceil(len(curves) / 10))]
    return Replay(tuple(stopped), 1 - run / total, sum(stopped[i] is not None for i in top) / len(top))
