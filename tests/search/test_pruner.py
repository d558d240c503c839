"""The late median pruner, on 60 recorded one-cycle curves (tests/data/curves/ORIGIN.md) and on curves made for a property."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import TrialState

from harness.search import LateMedian

EPOCHS, IMAGES = 40, 600
COUNTS = np.loadtxt(
    Path(__file__).parent.parent / "data" / "curves" / "one-cycle.csv", delimiter=","
)
CURVES = (COUNTS / IMAGES).tolist()
EVERY = 2  # epochs between two reports of a trial of 40: the ledger reports at most 20


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
        study.tell(
            trial,
            None if end else curve[-1],
            state=TrialState.PRUNED if end else TrialState.COMPLETE,
        )
        stopped.append(end)
    total = sum(len(curve) for curve in curves)
    run = sum(end or len(curve) for end, curve in zip(stopped, curves, strict=True))
    ranked = sorted(range(len(curves)), key=lambda i: -curves[i][-1])
    top = ranked[: max(1, math.ceil(len(curves) / 10))]
    return Replay(
        tuple(stopped), 1 - run / total, sum(stopped[i] is not None for i in top) / len(top)
    )


def test_the_recorded_set_is_of_sixty_whole_curves() -> None:
    assert COUNTS.shape == (60, EPOCHS)
    assert COUNTS.min() >= 0
    assert COUNTS.max() <= IMAGES


def test_the_default_pruner_saves_epochs_and_spares_the_best_of_recorded_curves() -> None:
    found = replay(CURVES, LateMedian(EPOCHS), every=EVERY)
    assert found.saved >= 0.12
    assert found.lost <= 0.25


def test_the_order_of_the_trials_does_not_decide_how_the_default_pruner_does() -> None:
    rng = np.random.default_rng(11)
    found = [
        replay([CURVES[i] for i in rng.permutation(60)], LateMedian(EPOCHS), every=EVERY)
        for _ in range(20)
    ]
    assert np.mean([one.saved for one in found]) >= 0.12
    assert max(one.lost for one in found) <= 0.25


@pytest.mark.parametrize(
    "pruner", [MedianPruner(), HyperbandPruner(max_resource=EPOCHS), SuccessiveHalvingPruner()]
)
def test_optunas_defaults_stop_more_of_the_best(
    pruner: optuna.pruners.BasePruner, record_property: Callable[[str, object], None]
) -> None:
    ours, theirs = (replay(CURVES, one, every=EVERY) for one in (LateMedian(EPOCHS), pruner))
    record_property("saved", round(theirs.saved, 3))
    record_property("lost", round(theirs.lost, 3))
    assert theirs.lost > ours.lost


def test_without_a_pruner_every_curve_runs_to_its_end() -> None:
    found = replay(CURVES, NopPruner(), every=EVERY)
    assert (found.saved, found.lost, set(found.stopped)) == (0.0, 0.0, {None})


def test_trials_are_looked_at_once() -> None:
    assert set(replay(CURVES, LateMedian(EPOCHS), every=EVERY).stopped) == {None, 26}


def test_a_late_report_is_looked_at_too() -> None:
    assert set(replay(CURVES, LateMedian(EPOCHS), every=7).stopped) == {None, 28}


def test_the_first_trials_are_never_stopped() -> None:
    falling = [[0.9 - 0.1 * i] * 10 for i in range(8)]
    assert replay(falling, LateMedian(10)).stopped == (None,) * 5 + (7, 7, 7)


def test_equal_trials_are_never_stopped() -> None:
    assert set(replay([[0.5] * 10] * 20, LateMedian(10)).stopped) == {None}


def test_stopped_trials_count_in_the_median() -> None:
    # With the survivors alone the median would climb to 0.9 and stop 0.6 as well.
    rows = [[level] * 10 for level in (0.5, 0.5, 0.5, 0.9, 0.9, 0.4, 0.4, 0.4, 0.6)]
    assert replay(rows, LateMedian(10)).stopped[-1] is None


def test_a_whole_warmup_would_save_nothing_and_stops_nothing() -> None:
    assert set(replay(CURVES, LateMedian(EPOCHS, warmup=0.99), every=EVERY).stopped) == {None}
