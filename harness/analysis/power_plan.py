"""What a study can find, before it is run: power, seeds for a wanted effect, smallest detectable effect, number of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from harness.analysis.verdicts import FEWEST_PAIRS, FIRM_PAIRS
from harness.errors import UsageError
from harness.study.arms import arms
from harness.study.cells import CONTROL_OFFSET, cells
from harness.study.profiles import PROFILES, Observed, builtin_profiles, observed
from harness.study.study import Study
from harness.study.trial import METRICS, Metric, Trial
from harness.text import plural

# between an arm and its reference over seeds: pairing gains nothing, or what is usual
CORRELATIONS = (0.0, 0.5)
WANTED_POWER = 0.8
SHORT_RUN = 16  # epochs
_FEWEST = 3  # finished seeds that an sd is taken from
_ACCURACY = 0.9  # assumed before anything was trained
_MOSTLY = 0.5  # share of the variance from which on it pays to say what more images would save


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """What a study can find.

    Mappings by correlation give the figure if pairing gains nothing (0.0) and if arms move together (0.5). All but ``power``
    are those of the contrast that is judged (a main effect in a factorial, else a paired difference) at alpha over the size of
    its family: what Holm asks of the smallest p, so they hold whatever the other members are.

    Attributes:
        metric, unit: what decides and the unit of sd, effect and detectable effects.
        sd: between seeds of one arm; None when nothing is known of it.
        source: where the sd comes from, in words.
        caveats: what to keep in mind, a sentence each.
        effect: the wanted effect.
        seeds: planned.
        looks: declared, empty for a fixed number of seeds.
        contrast: what is judged, in words.
        family: number of those that are judged together.
        seeds_needed: seeds that find the effect with 80 % power; None when out of reach.
        detectable: smallest effect that the planned seeds find with 80 % power; None below two seeds.
        power: chance that the planned seeds find the effect in one comparison at alpha.
        power_family: the same within its family.
        expected_seeds: mean number of seeds of an arm with the effect, with looks; else the planned number.
        expected_seeds_null: the same of an arm without an effect, which leaves as equivalent.
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
    contrast: str
    family: int
    seeds_needed: Mapping[float, int | None]
    detectable: Mapping[float, float | None]
    power: Mapping[float, float | None]
    power_family: Mapping[float, float | None]
    expected_seeds: Mapping[float, float | None]
    expected_seeds_null: Mapping[float, float | None]
    arms: int
    trials: int
    trials_first_look: int
    seconds: float | None

    def judges_nothing(self) -> str:
        """Return why no verdict can come of the study; empty where one can."""
        if self.arms < 2:
            return (
                "nothing is compared: the study has one arm, and its report gives the level alone"
            )
        if self.seeds < FEWEST_PAIRS:
            few = f"nothing is judged from {plural(self.seeds, 'seed')}"
            return f"{few}: a verdict takes {FEWEST_PAIRS}, and a firm one {FIRM_PAIRS}"
        return ""

    def finds(self) -> str:
        """Return what the planned seeds can find and what that rests on, in lines, or why that is unknown."""
        if nothing := self.judges_nothing():
            return nothing
        small, usual = (self.detectable[rho] for rho in CORRELATIONS)
        if self.sd is None or small is None or usual is None:
            return f"what it can find is unknown: {self.source}"

        def pp(value: float) -> str:
            return f"{value:.2g} {self.unit}".rstrip()

        once = f", {self.family} comparisons" if self.family > 1 else ""
        of = "main effects" if self.contrast == "main effect" else "differences"
        often = f"{10 * WANTED_POWER:.0f} of 10 studies like it ({100 * WANTED_POWER:.0f} % power"
        alike = (
            f"all arms rise and fall together from seed to seed (correlation {CORRELATIONS[1]:g})"
        )
        return (
            f"finds {of} of {pp(small)} or more in {often}, n = {self.seeds} seeds{once})\n"
            f"finds {pp(usual)} or more if {alike}\n"
            f"both rest on an sd between seeds of {pp(self.sd)}, {self.source}"
        )


@dataclass(frozen=True, slots=True)
class _Spread:
    """What is known of the spread between seeds: sd of one arm, its source, caveats, and the figures of the profile."""

    sd: float | None
    source: str
    caveats: tuple[str, ...] = ()
    seen: Observed | None = None


def plan_power(
    study: Study,
    *,
    effect: float | None = None,
    sd: float | None = None,
    finished: Sequence[Trial] = (),
    seconds_per_trial: float | None = None,
    metrics: Mapping[str, Metric] | None = None,
    images: int = 0,
) -> PowerPlan:
    """Work out what a study can find.

    The sd is the one given, else that of finished trials of the study's own recipes (at least 3
    seeds of one), else that of the committed reports of its profile, brought to its number of
    validation images, else, for accuracies, sqrt(err / (2 N)) with N validation images and an
    assumed accuracy of 90 % (``harness.stats.binomial_sd``).

    Args:
        study: under its profile.
        effect: wanted effect in the unit of the metric (pp for accuracies); default the study's
            margin.
        sd: between seeds of one arm, in the unit of the metric.
        finished: trials to take the sd from.
        seconds_per_trial: from timed steps or finished trials; buys the time estimate.
        metrics: metrics beyond the built-in ones.
        images: validation images, where they are at hand; a set that brings its own has not the
            number that the recipe asks for.

    Raises:
        UsageError: effect or sd is not above zero.
        StudyError: the study's arms are faulty.
    """
    metric = {**METRICS, **(metrics or {})}.get(
        study.metric, Metric(study.metric, "1", None, study.metric)
    )
    margin = study.margin_pp / 100.0 * metric.scale
    wanted = margin if effect is None else abs(effect)
    if wanted == 0.0 or (sd is not None and not sd > 0):
        raise UsageError(
            "effect and sd must be above zero", "for example --effect 0.3, in percentage points"
        )
    planned = arms(study)
    images = images or (0 if study.foreign else study.base_recipe.data.val)
    spread = _spread(study, metric, sd, finished, images or 10_000)
    contrast, family, factor = _judged(study, len(planned))
    judged = None if spread.sd is None else spread.sd * factor
    alpha = study.alpha / family

    trials = len(cells(study, "plan"))
    first = len(cells(study, "plan", upto_seed=study.looks[0])) if study.looks else trials
    return PowerPlan(
        metric=study.metric,
        unit=metric.unit if metric.unit == "pp" else "",
        sd=spread.sd,
        source=spread.source,
        caveats=(*spread.caveats, *_more_images(spread, images, wanted, alpha)),
        effect=wanted,
        alpha=study.alpha,
        seeds=study.seeds,
        looks=tuple(study.looks),
        contrast=contrast,
        family=family,
        seeds_needed={rho: _needed(judged, wanted, alpha, rho) for rho in CORRELATIONS},
        detectable={rho: _detectable(study, judged, alpha, rho) for rho in CORRELATIONS},
        power={rho: _power(study, judged, wanted, rho, study.alpha) for rho in CORRELATIONS},
        power_family={rho: _power(study, judged, wanted, rho, alpha) for rho in CORRELATIONS},
        expected_seeds={
            rho: _expected(study, judged, wanted, margin=margin, correlation=rho, alpha=alpha)
            for rho in CORRELATIONS
        },
        expected_seeds_null={
            rho: _expected(study, judged, 0.0, margin=margin, correlation=rho, alpha=alpha)
            for rho in CORRELATIONS
        },
        arms=len(planned),
        trials=trials,
        trials_first_look=first,
        seconds=None if seconds_per_trial is None else trials * seconds_per_trial,
    )


def _judged(study: Study, count: int) -> tuple[str, int, float]:
    """Return (what is judged, how many of them together, the sd of one over that of a paired difference).

    Over independent arms a main effect has the variance 4 sd^2 / arms, a paired difference 2 sd^2.
    """
    if study.design in ("factorial", "fraction") and len(study.factors) > 1:
        return "main effect", len(study.factors), sqrt(2.0 / count)
    return "paired difference", max(1, count - 1), 1.0


def _spread(
    study: Study, metric: Metric, sd: float | None, finished: Sequence[Trial], images: int
) -> _Spread:
    """Return what is known of the spread between seeds, from the best source there is."""
    seen = _seen(study) if metric.name == "accuracy" else None
    if sd is not None:
        return _Spread(sd, "as given", seen=seen)
    pooled, runs = _observed(study, metric, finished)
    if pooled is not None:
        few = (f"the sd is itself uncertain: it comes from {runs} trials",) if runs < 10 else ()
        return _Spread(pooled, f"from {runs} finished trials", few, seen)
    if study.foreign or metric.unit != "pp":
        return _Spread(
            None,
            f"nothing is known of how {metric.label} varies between seeds; run three of the baseline first",
        )

    if seen is not None:
        single = sqrt(_at(images, seen, seen.sd, seen.sd_images))
        paired = sqrt(_at(images, seen, seen.paired_sd, seen.paired_sd_images))
        correlation = 1.0 - (paired / single) ** 2 / 2.0
        caveat = (
            f"those runs reached {seen.accuracy:.0f} % on {seen.images:,} validation images; brought to {images:,}, the "
            f"difference of two of their arms has an sd of {paired:.2g} pp, a correlation of {correlation:.2f}"
        )
        return _Spread(
            single,
            f"from {seen.trials:,} committed trials of profile {study.profile}",
            (caveat,),
            seen,
        )
    from harness.stats import binomial_sd

    caveats = [
        f"the sd is not measured: {images:,} validation images would give it at {100 * _ACCURACY:.0f} % accuracy"
    ]
    if study.base_recipe.train.epochs <= SHORT_RUN:
        caveats.append(
            f"runs of {SHORT_RUN} epochs or fewer vary more between seeds than that: count on more seeds"
        )
    unseen = f" (no runs of profile {study.profile} yet)" if study.profile else ""
    return _Spread(
        100.0 * binomial_sd(_ACCURACY, images),
        f"guessed from {images:,} validation images{unseen}",
        tuple(caveats),
    )


def _seen(study: Study) -> Observed | None:
    """Return what the committed reports of a study's profile found; None where it trains on other images or for other epochs."""
    if study.foreign or study.profile not in PROFILES:
        return None
    fields = study.base_recipe.flat()
    alike = all(
        fields[name] == value
        for name, value in builtin_profiles()[study.profile].items()
        if name in ("data.name", "data.size", "data.train", "train.epochs")
    )
    return observed(study.profile) if alike else None


def _at(images: int, seen: Observed, sd: float, of_images: float) -> float:
    """Return the variance that a spread seen on some images has on another number: the images' part goes with one over it."""
    return sd**2 - of_images**2 + of_images**2 * seen.images / images


def _more_images(spread: _Spread, images: int, wanted: float, alpha: float) -> tuple[str, ...]:
    """Say what twice the validation images would save in seeds, where they make most of a paired difference's variance."""
    seen = spread.seen
    if seen is None or not images:
        return ()
    now, then = (
        _at(count, seen, seen.paired_sd, seen.paired_sd_images) for count in (images, 2 * images)
    )
    share = 2.0 * (now - then) / now
    before, after = (_needed(sqrt(variance / 2.0), wanted, alpha, 0.0) for variance in (now, then))
    if share <= _MOSTLY or before is None or after is None or after >= before:
        return ()
    note = (
        f"{100 * share:.0f} % of the variance of a paired difference comes from having {images:,} validation images: with "
        f"data.val = {2 * images}, {after:,} seeds find {wanted:g} pp where {images:,} images take {before:,}"
    )
    return (note,)


def _observed(study: Study, metric: Metric, finished: Sequence[Trial]) -> tuple[float | None, int]:
    """Return (sd pooled over the study's recipes that have enough finished seeds, number of those trials)."""
    squares, weights, runs = [], [], 0
    for recipe_id in {arm.recipe.id for arm in arms(study)}:
        scores = {
            trial.seed: trial.metrics[metric.name] * metric.scale
            for trial in finished
            if trial.state == "complete"
            and trial.recipe_id == recipe_id
            and metric.name in trial.metrics
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


def _detectable(study: Study, sd: float | None, alpha: float, correlation: float) -> float | None:
    """Smallest effect found; with looks by the last one alone, which leaves out what earlier looks add."""
    from harness.stats import boundary_levels, detectable_effect

    if sd is None or study.seeds < 2:
        return None
    level = (
        boundary_levels(study.looks, alpha=alpha, boundary=study.boundary)[-1]
        if study.looks
        else alpha
    )
    return detectable_effect(
        sd, study.seeds, alpha=level, power=WANTED_POWER, correlation=correlation
    )


def _power(
    study: Study, sd: float | None, effect: float, correlation: float, alpha: float
) -> float | None:
    """Chance of finding the effect: of the fixed-n test, or with looks of their rule at the last one."""
    from harness.stats import power, sequential_power

    if sd is None or study.seeds < 2:
        return None
    if study.looks:
        rule = study.boundary
        return float(
            sequential_power(
                sd, effect, looks=study.looks, alpha=alpha, correlation=correlation, boundary=rule
            )[-1]
        )
    return power(sd, effect, n=study.seeds, alpha=alpha, correlation=correlation)


def _expected(
    study: Study,
    sd: float | None,
    effect: float,
    *,
    margin: float,
    correlation: float,
    alpha: float,
) -> float | None:
    """Mean number of seeds that an arm with this effect takes."""
    from harness.stats import expected_seeds

    if not study.looks:
        return float(study.seeds)
    if sd is None:
        return None
    rule = study.boundary
    return expected_seeds(
        sd,
        effect,
        looks=study.looks,
        alpha=alpha,
        margin=margin,
        correlation=correlation,
        boundary=rule,
    )
