"""What is drawn, before it is drawn: scores by arm and seed, mean curves with their bands.

Legend: E epochs, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis import Analysis
from harness.report.lookup import effects_of, metric_of
from harness.report.material import Material, recipe_ids
from harness.study.cells import seeds
from harness.study.trial import Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PANELS = 12  # arms drawn in figures that give each its own panel


def by_arm(material: Material, analysis: Analysis) -> dict[str, list[Trial]]:
    """Return every arm's completed trials in seed order: of the complete blocks, or of all seeds while there is none."""
    wanted = set(analysis.seeds)
    found: dict[str, list[Trial]] = {}
    for key, trial in zip(recipe_ids(material.trials), material.trials, strict=True):
        if trial.state == "complete" and (not wanted or trial.seed in wanted):
            found.setdefault(key, []).append(trial)
    planned = set(material.seeds or seeds(analysis.study))
    return {
        arm.name: sorted(
            (t for t in found.get(arm.recipe_id, []) if t.seed in planned),
            key=lambda trial: trial.seed,
        )
        for arm in analysis.arms
    }


def scores(trials: Iterable[Trial], analysis: Analysis, metric: str) -> dict[int, float]:
    """Return ``{seed: score}`` in the unit shown, of the trials that carry the metric."""
    scale = 100.0 if metric_of(analysis, metric).unit == "pp" else 1.0
    return {
        trial.seed: scale * trial.metrics[metric] for trial in trials if metric in trial.metrics
    }


@dataclass(frozen=True)
class Band:
    """Mean over seeds with its t interval, epoch by epoch; the bounds are the mean itself for one seed.

    ``epochs_E`` are the epochs, from 1, in which every seed has a figure: validation may run every second epoch only.
    """

    mean_E: npt.NDArray[np.float64]
    low_E: npt.NDArray[np.float64]
    high_E: npt.NDArray[np.float64]
    n: int
    epochs_E: npt.NDArray[np.int64]

    def at(self, epoch: int) -> int:
        """Return the place of the last epoch that is no later than one given, the first one's if none is."""
        return max(int((self.epochs_E <= epoch).sum()) - 1, 0)


def band(
    trials: Iterable[Trial],
    curves: Mapping[str, object],
    column: str,
    *,
    alpha: float,
    scale: float = 1.0,
) -> Band | None:
    """Return the band of one column of the curves of some trials; None where no curve has it."""
    import numpy as np

    rows = [getattr(curves[trial.cell], column) for trial in trials if trial.cell in curves]
    rows = [row for row in rows if len(row)]
    if not rows:
        return None
    epochs = min(len(row) for row in rows)
    values_SE = scale * np.asarray([row[:epochs] for row in rows], dtype=np.float64)
    return band_of(values_SE, alpha=alpha)


def band_of(values_SE: npt.NDArray[np.float64], *, alpha: float) -> Band | None:
    """Return mean and t interval over the first axis, of the columns without a gap; None where there is no such column."""
    import numpy as np
    from scipy.special import stdtrit

    # validation may run every second epoch only
    there_E = np.isfinite(values_SE).all(axis=0)
    if not there_E.any():
        return None
    values_SE = values_SE[:, there_E]
    n = values_SE.shape[0]
    mean_E = values_SE.mean(axis=0)
    half_E = np.zeros_like(mean_E)
    if n > 1:
        half_E = stdtrit(n - 1, 1 - alpha / 2) * values_SE.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(mean_E, mean_E - half_E, mean_E + half_E, n, np.flatnonzero(there_E) + 1)


def chosen_arms(analysis: Analysis, limit: int = PANELS) -> tuple[list[str], int]:
    """Return the arms that get a panel, in study order, and how many are left out: the baseline and the largest effects."""
    names = [arm.name for arm in analysis.arms if arm.completed]
    if len(names) <= limit:
        return names, 0
    # what changed the most is what a reader looks for
    size: dict[str, float] = {}
    for metric in ("gap", analysis.study.metric):
        for effect in effects_of(analysis, "arm", metric):
            size[effect.term] = max(size.get(effect.term, 0.0), abs(effect.estimate or 0.0))
    ranked = sorted(
        names,
        key=lambda name: (name != analysis.study.baseline, -size.get(name, 0.0), names.index(name)),
    )
    kept = set(ranked[:limit])
    return [name for name in names if name in kept], len(names) - limit


def dots(arms: int) -> int:
    """Return how many dots an arm gets in figures that draw every seed: 60, fewer with many arms, for the page's size."""
    return max(20, min(60, 1200 // max(arms, 1)))


def thinned(values: Sequence[float], limit: int) -> list[float]:
    """Return the values, or ``limit`` evenly spaced order statistics of more, which show a distribution as all would."""
    if len(values) <= limit:
        return list(values)
    ordered = sorted(values)
    return [ordered[round(i * (len(ordered) - 1) / (limit - 1))] for i in range(limit)]
