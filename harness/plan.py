"""What a study can find, before it is run: power, seeds for a wanted effect, smallest detectable effect, number of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from harness.design import CONTROL_OFFSET, arms, cells
from harness.errors import UsageError
from harness.study import Study
from harness.trial import METRICS, Metric, Trial

CORRELATIONS = (0.0, 0.5)  # between an arm and its reference over seeds: pairing gains nothing, or what is usual
WANTED_POWER = 0.8
SHORT_RUN = 16  # epochs
_FEWEST = 3  # finished seeds that an sd is taken from
_ACCURACY = 0.9  # assumed before anything was trained


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """What a study can find.

    Mappings by correlation give the figure if pairing gains nothing (0.0) and if arms move together (0.5). Power and seeds are
    those of one comparison at alpha; ``power_family`` is the least power under Holm's correction, when every other arm is null.

    Attributes:
        metric, unit: what decides and the unit of sd, effect and detectable effects.
        sd: between seeds of one arm; None when nothing is known of it.
        source: where the sd comes from, in words.
        caveats: what to keep in mind, a sentence each.
        effect: the wanted effect.
        seeds: planned.
        looks: declared, empty for a fixed number of seeds.
        seeds_needed: seeds that find the effect with 80 % power; None when out of reach.
        detectable: smallest effect that the planned seeds find with 80 % power; None below two seeds.
        power, power_family: chance that the planned seeds find the effect.
        arms: number of arms, the baseline included.
        trials: cells at the planned seeds; ``trials_first_look`` at the first look, the least a study with looks can end with.
        seconds: estimated time of all trials, one after the other; None without ``seconds_per_trial``.
    """

    metric: str
    unit: str
    sd: float | None
    source: str
    caveats: tuple[str, ...]
    effect: float
    alpha: float
    seeds: int
    looks: tuple[int, ...]
    seeds_needed: Mapping[float, int | None]
    detectable: Mapping[float, float | None]
    power: Mapping[float, float | None]
    power_family: Mapping[float, float | None]
    arms: int
    trials: int
    trials_first_look: int
    seconds: float | None

    def finds(self) -> str:
        """Return what the planned seeds can find, in a clause, or why that is unknown."""
        small, usual = (self.detectable[rho] for rho in CORRELATIONS)
        if self.sd is None or small is None or usual is None:
            return f"power unknown: {self.source}"
        return (
            f"finds {small:.2g} {self.unit} with {100 * WANTED_POWER:.0f} % power "
            f"({usual:.2g} if paired seeds correlate at .5); sd {self.sd:.2g} {self.unit} {self.source}"
        )


def plan_power(
    study: Study,
    *,
    effect: float | None = None,
    sd: float | None = None,
    finished: Sequence[Trial] = (),
    seconds_per_trial: float | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> PowerPlan:
    """Work out what a study can find.

    The sd is the one given, else that of finished trials of the study's own recipes (at least 3 seeds of one), else, for
    accuracies, sqrt(err / (2 N)) with N validation images and an assumed accuracy of 90 % (``harness.stats.binomial_sd``).

    Args:
        study: under its profile.
        effect: wanted effect in the unit of the metric (pp for accuracies); default the study's margin.
        sd: between seeds of one arm, in the unit of the metric.
        finished: trials to take the sd from.
        seconds_per_trial: from timed steps or finished trials; buys the time estimate.
        metrics: metrics beyond the built-in ones.

    Raises:
        UsageError: effect or sd is not above zero.
        StudyError: the study's arms cannot be.
    """
    metric = {**METRICS, **(metrics or {})}.get(study.metric, Metric(study.metric, "1", None, study.metric))
    margin = study.margin_pp / 100.0 * metric.scale
    wanted = margin if effect is None else abs(effect)
    if wanted == 0.0 or (sd is not None and not sd > 0):
        raise UsageError("effect and sd must be above zero", "for example --effect 0.3, in percentage points")
    planned = arms(study)
    spread, source, caveats = _spread(study, metric, sd, finished)
    family = max(1, len(planned) - 1)
    if study.design in ("factorial", "fraction") and spread is not None and study.seeds > 1:
        # Independent arms: a main effect has the variance 4 sd^2 / arms, a paired difference 2 sd^2.
        factor = sqrt(2.0 / len(planned))
        found = (_detectable(spread, study.seeds, study.alpha, 0.0) or 0.0) * factor
        caveats = (*caveats, f"main effects average over all {len(planned)} arms and are found from {found:.2g} on")
    trials = len(cells(study, "plan"))
    first = len(cells(study, "plan", upto_seed=study.looks[0])) if study.looks else trials
    powers = {rho: _power(study, spread, wanted, rho, study.alpha) for rho in CORRELATIONS}
    return PowerPlan(
        metric=study.metric,
        unit=metric.unit if metric.unit == "pp" else "",
        sd=spread,
        source=source,
        caveats=caveats,
        effect=wanted,
        alpha=study.alpha,
        seeds=study.seeds,
        looks=tuple(study.looks),
        seeds_needed={rho: _needed(spread, wanted, study.alpha, rho) for rho in CORRELATIONS},
        detectable={rho: _detectable(spread, study.seeds, study.alpha, rho) for rho in CORRELATIONS},
        power=powers,
        power_family={rho: _power(study, spread, wanted, rho, study.alpha / family) for rho in CORRELATIONS},
        arms=len(planned),
        trials=trials,
        trials_first_look=first,
        seconds=None if seconds_per_trial is None else trials * seconds_per_trial,
    )


def _spread(
    study: Study, metric: Metric, sd: float | None, finished: Sequence[Trial]
) -> tuple[float | None, str, tuple[str, ...]]:
    """Return (sd between seeds, where it is from, caveats)."""
    if sd is not None:
        return sd, "as given", ()
    pooled, runs = _observed(study, metric, finished)
    if pooled is not None:
        few = (f"the sd is itself uncertain: it comes from {runs} trials",) if runs < 10 else ()
        return pooled, f"from {runs} finished trials", few
    if study.foreign or metric.unit != "pp":
        return None, f"nothing is known of how {metric.label} varies between seeds; run three of the baseline first", ()
    from harness.stats import binomial_sd

    recipe = study.base_recipe
    images = recipe.data.val or 10_000
    caveats = [f"the sd is what {images} validation images and {100 * _ACCURACY:.0f} % accuracy would give, not a measured one"]
    if recipe.train.epochs <= SHORT_RUN:
        caveats.append(f"runs of {SHORT_RUN} epochs or fewer vary more between seeds than that: count on more seeds")
    return 100.0 * binomial_sd(_ACCURACY, images), "by the binomial fall-back", tuple(caveats)


def _observed(study: Study, metric: Metric, finished: Sequence[Trial]) -> tuple[float | None, int]:
    """Return (sd pooled over the study's recipes that have enough finished seeds, number of those trials)."""
    squares, weights, runs = [], [], 0
    for recipe_id in {arm.recipe.id for arm in arms(study)}:
        scores = {
            trial.seed: trial.metrics[metric.name] * metric.scale
            for trial in finished
            if trial.state == "complete" and trial.recipe_id == recipe_id and metric.name in trial.metrics
        }
        scores = {seed: score for seed, score in scores.items() if seed < CONTROL_OFFSET}
        if len(scores) >= _FEWEST:
            mean = fsum(scores.values()) / len(scores)
            squares.append(fsum((score - mean) ** 2 for score in scores.values()))
            weights.append(len(scores) - 1)
            runs += len(scores)
    pooled = sqrt(fsum(squares) / sum(weights)) if weights else 0.0
    return (pooled or None), runs


def _needed(sd: float | None, effect: float, alpha: float, correlation: float) -> int | None:
    from harness.stats import seeds_needed

    if sd is None:
        return None
    try:
        return seeds_needed(sd, effect, alpha=alpha, power=WANTED_POWER, correlation=correlation)
    except UsageError:  # more seeds than anybody would run
        return None


def _detectable(sd: float | None, seeds: int, alpha: float, correlation: float) -> float | None:
    from harness.stats import detectable_effect

    if sd is None or seeds < 2:
        return None
    return detectable_effect(sd, seeds, alpha=alpha, power=WANTED_POWER, correlation=correlation)


def _power(study: Study, sd: float | None, effect: float, correlation: float, alpha: float) -> float | None:
    """Chance of finding the effect: of the fixed-n test, or with looks of Pocock's rule at the last one."""
    from harness.stats import power, sequential_power

    if sd is None or study.seeds < 2:
        return None
    if study.looks:
        return float(sequential_power(sd, effect, looks=study.looks, alpha=alpha, correlation=correlation)[-1])
    return power(sd, effect, n=study.seeds, alpha=alpha, correlation=correlation)
