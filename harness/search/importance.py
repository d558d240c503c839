"""Association of a search's parameters with its score: PED-ANOVA over bootstrap resamples, next to a parameter of pure noise.

Source: Watanabe et al., PED-ANOVA (arXiv 2304.10255), as Optuna has it. It says which parameters
the best tenth of the trials share values of, within this space and where this sampler looked; never
what a change of one parameter would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from harness.search.results import Tried
from harness.study.space import DUMMY

# complete trials: with 30, the strongest of five parameters of pure noise had a share of .57
ENOUGH = 50
RESAMPLES = 50


@dataclass(frozen=True, slots=True)
class ImportanceShare:
    """A parameter's share of the association: the median over resamples, and where the middle 80 % of them lie."""

    parameter: str
    value: float
    low: float
    high: float


def importances(
    slots: Sequence[Tried], *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[list[ImportanceShare], ImportanceShare | None]:
    """Return the shares of the parameters that every complete trial has, largest first, and the dummy's, the noise floor.

    Nothing below ``ENOUGH`` complete trials. Parameters under a condition are left out: they are
    missing in some trials.

    Args:
        slots: what was tried.
        rng: draws the resamples.
        resamples: how many; each has as many trials as there are.
    """
    # brings scikit-learn along, which a worker has no use for
    from optuna.importance import PedAnovaImportanceEvaluator

    rows = [slot.row for slot in slots if slot.value is not None and slot.row is not None]
    if len(rows) < ENOUGH:
        return [], None

    # Over resamples, because one run of the method on a few trials gives no idea of its scatter.
    names = sorted(set.intersection(*(set(row.params) for row in rows)))
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(resamples):
        study = optuna.create_study(direction="maximize")
        study.add_trials([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        for name, value in optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=names
        ).items():
            drawn[name].append(float(value))
    shares = [
        ImportanceShare(name, *map(float, np.quantile(values, (0.5, 0.1, 0.9))))
        for name, values in drawn.items()
        if values
    ]
    # what is not above a parameter of pure noise says nothing
    floor = next((share for share in shares if share.parameter == DUMMY), None)
    return sorted((s for s in shares if s.parameter != DUMMY), key=lambda s: -s.value), floor
