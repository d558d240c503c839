"""Trials joined to the arms of their study: who ran which seed, how it ended, and what it scored.

Nothing here looks at a name: arms are joined by recipe, seeds by number. Only where a study was
made from a table of finished runs, whose recipes nobody knows, the table's label takes the
place of the recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from harness.stats import differences
from harness.study.arms import Arm, arms
from harness.study.cells import CONTROL_OFFSET, seeds
from harness.study.study import Study
from harness.study.trial import METRICS, Curve, Metric, Trial

Status = Literal["missing", "complete", "failed", "diverged", "pruned"]
_GAPS = {"accuracy": "gap", "nll": "loss_gap"}  # metrics whose gap has a name of its own


@dataclass(frozen=True, slots=True)
class Run:
    """One arm at one seed.

    Attributes:
        trial: its final record.
        status: its state; a complete trial without a finite primary score counts as failed.
        scores: ``{metric: score in the unit it is shown in}``, finite ones only.
        curve: epoch history, possibly empty.
    """

    trial: Trial
    status: Status
    scores: Mapping[str, float]
    curve: Curve


@dataclass(frozen=True, slots=True)
class Table:
    """A study's runs by arm and seed.

    Attributes:
        study: under its profile.
        arms: the baseline first.
        seeds: planned seeds in order.
        runs: ``{arm: {seed: run}}``, in seed order.
        control: runs of the A/A arm under the seed of the baseline that each is paired with.
        trials: of all these runs, each once, in the order of cells: arms of one recipe share theirs.
        metrics: what the runs carry, the primary one first.
        gap: name of the gap that goes with the primary metric.
        fingerprint: of the images that count: the one asked for, else the most frequent.
        superseded: trials left out because the same cell has a better record or one on the images that count.
    """

    study: Study
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    runs: Mapping[str, Mapping[int, Run]]
    control: Mapping[int, Run]
    trials: tuple[Trial, ...]
    metrics: Mapping[str, Metric]
    gap: str
    fingerprint: str
    superseded: int

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metrics[self.study.metric]

    @property
    def sign(self) -> int:
        """1 when more of the primary metric is better, -1 when less is."""
        return -1 if self.primary.higher_is_better is False else 1

    @property
    def margin(self) -> float:
        """The study's margin in the unit of the primary metric: ``margin_pp`` is hundredths of what trials store."""
        return self.study.margin_pp / 100.0 * self.primary.scale

    @property
    def all_runs(self) -> Iterator[Run]:
        """The runs of all arms, the A/A arm's left out."""
        return (run for runs in self.runs.values() for run in runs.values())

    def status(self, arm: str, seed: int) -> Status:
        """What became of a planned run."""
        run = self.runs[arm].get(seed)
        return run.status if run is not None else "missing"

    def of(self, arm: str, status: Status | None = None) -> list[Run]:
        """Return an arm's runs in seed order, those of one status alone when it is given."""
        return [run for run in self.runs[arm].values() if status in (None, run.status)]

    def count(self, arm: str, *statuses: Status) -> int:
        """How many of an arm's runs have one of these states."""
        return sum(run.status in statuses for run in self.of(arm))

    def pairs(
        self, arm: str, reference: str, metric: str, among: Sequence[int]
    ) -> tuple[list[int], list[float], list[float]]:
        """Return (seeds, scores of the arm, scores of the reference) where both completed and carry the metric."""
        own, other = self.scores(arm, metric, among), self.scores(reference, metric, among)
        seeds = [seed for seed in own if seed in other]
        return seeds, [own[seed] for seed in seeds], [other[seed] for seed in seeds]

    def scores(self, arm: str, metric: str, among: Sequence[int]) -> dict[int, float]:
        """Return ``{seed: score}`` of an arm's completed runs that carry the metric, in the order of ``among``."""
        runs = self.runs[arm]
        return {
            seed: run.scores[metric]
            for seed in among
            if (run := runs.get(seed)) is not None
            and run.status == "complete"
            and metric in run.scores
        }


def join(
    study: Study,
    trials: Sequence[Trial],
    *,
    curves: Mapping[str, Curve],
    metrics: Mapping[str, Metric],
    data_fingerprint: str = "",
    planned_seeds: Sequence[int] | None = None,
) -> Table:
    """Join trials to the arms of a study by recipe and seed; trials of other recipes or seeds are passed over.

    Args:
        study: under its profile.
        trials: final records, in any order.
        curves: by cell key; a trial without an entry brings its own.
        metrics: metrics beyond ``METRICS``, by name.
        data_fingerprint: of the images that count; empty takes the most frequent among the trials.
        planned_seeds: in place of the study's 0, 1, 2, ...

    Raises:
        StudyError: the study's arms are faulty (``harness.study.arms``).
    """
    # Arms may share a recipe with the baseline of another design: a place is a recipe and a seed,
    # so that one trial serves every arm that has it.
    planned = arms(study)
    recipe_ids = {arm.name: arm.recipe_id for arm in planned}
    baseline_id = recipe_ids[planned[0].name]
    numbers = tuple(seeds(study) if planned_seeds is None else planned_seeds)
    wanted = dict.fromkeys(recipe_ids.values(), frozenset(numbers))
    if study.control:
        wanted[baseline_id] |= {seed + CONTROL_OFFSET for seed in numbers}
    ours = [trial for trial in trials if trial.seed in wanted.get(trial.recipe_id, ())]

    counted = Counter(trial.data_fingerprint for trial in ours)
    fingerprint = data_fingerprint or min(counted, key=lambda key: (-counted[key], key), default="")
    # of several records of a place the last one in this order counts
    ordered = sorted(ours, key=lambda trial: _standing(trial, fingerprint))
    chosen = {(trial.recipe_id, trial.seed): trial for trial in ordered}

    known = {**METRICS, **metrics}
    found = {
        place: _run(trial, curves.get(trial.cell, trial.curve), study.metric, known)
        for place, trial in chosen.items()
    }

    def runs_of(recipe_id: str, *, shift: int = 0) -> dict[int, Run]:
        places = {seed: (recipe_id, seed + shift) for seed in numbers}
        return {seed: found[place] for seed, place in places.items() if place in found}

    return Table(
        study=study,
        arms=planned,
        seeds=numbers,
        runs={arm: runs_of(recipe_id) for arm, recipe_id in recipe_ids.items()},
        control=runs_of(baseline_id, shift=CONTROL_OFFSET) if study.control else {},
        trials=tuple(sorted(chosen.values(), key=lambda trial: trial.cell)),
        metrics=_carried(study.metric, found.values(), known),
        gap=gap_name(study.metric),
        fingerprint=fingerprint,
        superseded=len(ours) - len(chosen),
    )


def _standing(trial: Trial, fingerprint: str) -> tuple[bool, bool, int, str]:
    """Order of the records of one cell, the best last: right images, complete, latest attempt."""
    return (
        trial.data_fingerprint == fingerprint,
        trial.state == "complete",
        trial.attempt,
        trial.cell,
    )


def gap_name(metric: str) -> str:
    """Return the name of the overfitting gap of a metric; test accuracy and the like share the gap in accuracy."""
    if metric in _GAPS:
        return _GAPS[metric]
    return "gap" if metric in ("test_accuracy", "best_accuracy", "top5", "ece") else f"{metric}_gap"


def metric_named(name: str, known: Mapping[str, Metric]) -> Metric:
    """Return a metric by name.

    An unknown gap takes its unit from what it is the gap of; anything else unknown has the unit 1
    and no better end.
    """
    if name in known:
        return known[name]
    of = known.get(name.removesuffix("_gap"))
    if name.endswith("_gap") and of is not None:
        return Metric(name, of.unit, None, f"gap in {of.label}")
    return Metric(name, "1", None, name)


def _run(trial: Trial, curve: Curve, primary: str, known: Mapping[str, Metric]) -> Run:
    if trial.state != "complete":
        return Run(trial, trial.state, {}, curve)
    stored = {name: value for name, value in trial.metrics.items() if isfinite(value)}
    trained = f"train_{primary}"
    if trained in stored and primary in stored and (gap := gap_name(primary)) not in stored:
        difference = differences([stored[trained]], [stored[primary]]).item()
        # positive: better on what it was trained on
        lower = metric_named(primary, known).higher_is_better is False
        stored[gap] = -difference if lower else difference

    # The best epoch is chosen on the images that score it, so it is shown and never judged.
    if "best_accuracy" not in stored and curve.val_accuracy:
        # validation may run every second epoch only
        seen = [epoch for epoch, value in enumerate(curve.val_accuracy) if isfinite(value)] or [0]
        best = max(seen, key=lambda epoch: curve.val_accuracy[epoch])
        stored["best_accuracy"] = curve.val_accuracy[best]
        if len(curve.train_accuracy) == len(curve.val_accuracy):
            gap_S = differences([curve.train_accuracy[best]], [curve.val_accuracy[best]])
            stored.setdefault("best_gap", float(gap_S[0]))

    # From here on every number is in the unit that people read.
    scores = {
        name: value * metric_named(name, known).scale
        for name, value in stored.items()
        if isfinite(value)
    }
    # without the number that decides, a run that ended is no run
    return Run(trial, "complete" if primary in scores else "failed", scores, curve)


def _carried(primary: str, runs: Iterable[Run], known: Mapping[str, Metric]) -> dict[str, Metric]:
    names = {name for run in runs for name in run.scores}
    ordered = [primary, *(name for name in METRICS if name in names), *sorted(names - set(METRICS))]
    return {name: metric_named(name, known) for name in dict.fromkeys(ordered)}
