"""When a trial is stopped before its last epoch."""

from __future__ import annotations

import math

import optuna
from optuna.pruners import BasePruner, MedianPruner
from optuna.trial import FrozenTrial

from harness.ledger.rows import recipe_of
from harness.study.recipe import Recipe

# epochs before a net may be held to be guessing: after fewer, one-cycle has hardly left its low
# first rate
FEWEST = 5
# and steps: small sets make an epoch of a handful of steps, after five of which no net has learnt
# anything
FEWEST_STEPS = 50
REPORTS = 20  # epochs of a trial that the storage is told of, at most


def reported(epoch: int, epochs: int) -> bool:
    """Return whether epoch ``epoch`` (from 0) is reported: every ``epochs / REPORTS``-th is, a third's end and the last."""
    done = epoch + 1
    return done % math.ceil(epochs / REPORTS) == 0 or done in (math.ceil(epochs / 3), epochs)


def judged_from(recipe: Recipe) -> int:
    """Return after how many epochs a net may be held to be guessing: a third of them, and the fewest epochs and steps."""
    epochs, images = recipe.train.epochs, recipe.data.train
    # 0 images are all of a whole data set
    steps = math.ceil(images / recipe.train.batch_size) if images else FEWEST_STEPS
    return max(math.ceil(epochs / 3), FEWEST, math.ceil(FEWEST_STEPS / steps))


class Hopeless(BasePruner):
    """Stops a trial whose accuracy is not a number, or that after a third of its epochs still guesses (``judged_from``).

    It never compares trials: dropping a seed because it is worse than others would bias its arm's mean.

    Args:
        chance: accuracy up to which a net is held to be guessing; 0 if that is not known.
    """

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:  # noqa: ARG002 - Optuna's interface
        """Return whether the trial should stop."""
        last = trial.last_step
        if last is None:
            return False
        if math.isnan(trial.intermediate_values[last]):
            return True

        # The trial's own recipe decides: in a search, batch size and epochs differ from slot to
        # slot.
        recipe = recipe_of(trial)
        guessing = max(trial.intermediate_values.values()) <= self.chance and self.chance > 0
        return guessing and judged_from(recipe) <= last + 1 < recipe.train.epochs


class Screening(Hopeless):
    """As ``Hopeless``, and from 70 % of its epochs on stops what is below the median of the others: for screenings only.

    Earlier than that, one-cycle curves say little of where they end: their rank correlation with the final accuracy was .52 at
    15 of 30 epochs.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should stop."""
        if super().prune(study, trial):
            return True
        median = MedianPruner(
            n_startup_trials=5, n_warmup_steps=math.ceil(0.7 * recipe_of(trial).train.epochs)
        )
        return bool(median.prune(study, trial))
