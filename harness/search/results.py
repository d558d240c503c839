"""What a search tried and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from harness.ledger.rows import trial_of
from harness.search.limits import excess
from harness.search.search_ledger import SearchLedger
from harness.study.recipe import Recipe
from harness.study.space import DUMMY, Search
from harness.study.trial import State


@dataclass(frozen=True, slots=True)
class Tried:
    """One slot of a search that is final.

    Attributes:
        slot: from 0; the reference is 0.
        state: of its trial.
        value: validation accuracy in [0, 1]; None unless complete: what a stopped trial had is not where it would have ended.
        epochs: that it ran.
        epochs_planned: that a whole run has.
        seconds: of training.
        gap: overfitting gap in [0, 1]; None unless complete.
        params: ``{entry: value}`` that the sampler chose, without the dummy.
        broken: limits that it exceeds.
        recipe: what was run.
        row: Optuna's trial.
    """

    slot: int
    state: State
    value: float | None
    epochs: int
    epochs_planned: int
    seconds: float
    gap: float | None
    params: Mapping[str, Any]
    recipe: Recipe
    broken: tuple[str, ...] = ()
    row: optuna.trial.FrozenTrial | None = field(default=None, compare=False, repr=False)


def tried(ledger: SearchLedger, rules: Search) -> list[Tried]:
    """Return every final slot of the plan, in the order of the slots.

    Args:
        ledger: of the search.
        rules: whose limits count: they may have changed since a trial was run.
    """
    slots = []
    for slot, row in ledger.finals():
        trial = trial_of(row)
        done = trial.state == "complete"
        slots.append(
            Tried(
                slot=slot,
                state=trial.state,
                value=trial.metrics.get("accuracy") if done else None,
                epochs=trial.epochs,
                epochs_planned=trial.recipe.train.epochs,
                seconds=trial.train_seconds,
                gap=trial.metrics.get("gap") if done else None,
                params={name: value for name, value in row.params.items() if name != DUMMY},
                recipe=trial.recipe,
                broken=tuple(name for name, value in excess(rules, trial).items() if value > 0),
                row=row,
            )
        )
    return slots


def best(slots: Sequence[Tried], count: int, *, besides: Recipe | None = None) -> list[Tried]:
    """Return the best complete trials within the limits, best first, each recipe once, at most ``count``.

    Args:
        slots: what was tried.
        count: how many at most.
        besides: a recipe to leave out, such as the reference.
    """
    chosen: list[Tried] = []
    eligible = [
        slot
        for slot in slots
        if slot.value is not None and not slot.broken and slot.recipe != besides
    ]
    for slot in sorted(eligible, key=lambda slot: (-(slot.value or 0.0), slot.slot)):
        # numbers to four digits meet again in a small space; seeds are too dear to run one recipe
        # twice
        if all(slot.recipe != other.recipe for other in chosen):
            chosen.append(slot)
    return chosen[:count]
