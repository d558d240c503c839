"""Two reports side by side: the same arm in both, for the metric that decides, the overfitting gap and throughput.

Differences are B minus A. Runs are paired by seed when both have the same seeds, else compared by Welch's t test (Welch 1947,
Biometrika 34), which does not take their variances as equal. Verdicts follow the rules of ``harness.analysis.verdicts``, Holm
over the arms of one metric. The gap has no better end and gets an interval alone. Throughput is compared as a ratio, and judged
only where both sides ran in one environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan, sqrt
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from harness.analysis import Analysis, ArmFacts, Summary, Verdict
from harness.analysis.verdicts import decide, number
from harness.errors import UsageError
from harness.stats import differences, holm, on_grid, paired_t, size_of, tost, zero_below
from harness.stats.paired import moments, two_sided_p, upper_p

SPEED = "images_per_second"
SPEED_MARGIN = 0.05  # share; two runs of one program on a shared machine differ by less than that


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Stored):
    """One arm on one metric: B minus A.

    Attributes:
        unit: ``pp``, ``1``, or ``%`` for throughput, whose estimate and bounds are relative to A.
        test: how the runs were compared; empty when there was nothing to compare.
        mean_a, mean_b: means of both sides, of the geometric kind for throughput (images a second).
    """

    arm: str
    metric: str
    unit: str
    test: Literal["paired", "welch", ""]
    n_a: int
    n_b: int
    mean_a: float | None = None
    mean_b: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None
    verdict: Verdict = ""
    note: str = ""


class Comparison(_Stored):
    """Every arm that both sides have, and what only one of them has.

    Attributes:
        differences: by arm in the order of A, the deciding metric first, then the gap, then throughput.
        worse: whether B is worse than A for any arm, in the deciding metric or in throughput.
    """

    metric: str
    margin: float
    alpha: float
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    worse: bool = False


@dataclass(frozen=True, slots=True)
class _Tested:
    """A difference before Holm: test, runs of both sides, mean, bounds, p, p for equivalence."""

    test: Literal["paired", "welch", ""]
    sizes: tuple[int, int]
    mean: float
    low: float
    high: float
    p: float
    p_equivalence: float
    constant: bool


def compare(a: Analysis, b: Analysis) -> Comparison:
    """Compare two analyses, arm by arm; the margin and alpha are those of A.

    Arms are matched by name, and those left over by recipe.

    Args:
        a: what was there before.
        b: what is asked about: is it worse?

    Raises:
        UsageError: they decide by different metrics, or share no arm.
    """
    if a.primary != b.primary:
        raise UsageError(f"one report decides by {a.primary}, the other by {b.primary}", "compare reports of one metric")
    pairs = _matched(a, b)
    if not pairs:
        raise UsageError("the two reports share no arm", "compare two runs of one study, or of studies with common arms")
    same_ground = bool(a.environments) and a.environments == b.environments
    metrics = [a.primary, *([a.gap] if a.gap != a.primary else []), SPEED]
    by_metric = {metric: _differences(a, b, pairs, metric, judged=metric != SPEED or same_ground) for metric in metrics}
    rows = [by_metric[metric][index] for index in range(len(pairs)) for metric in metrics]
    notes = [f"{one.name}: the recipes differ" for one, other in pairs if one.recipe_id != other.recipe_id]
    if not same_ground:
        notes.append("throughput is shown and not judged: the two ran in different environments, or it is not known in which")
    return Comparison(
        metric=a.primary,
        margin=a.margin,
        alpha=a.study.alpha,
        differences=tuple(row for row in rows if row.test),
        only_a=tuple(arm.name for arm in a.arms if arm not in [one for one, _ in pairs]),
        only_b=tuple(arm.name for arm in b.arms if arm not in [other for _, other in pairs]),
        notes=tuple(notes),
        worse=any(row.verdict == "worse" for row in rows),
    )


def _matched(a: Analysis, b: Analysis) -> list[tuple[ArmFacts, ArmFacts]]:
    named = {arm.name: arm for arm in b.arms}
    left = {arm.recipe_id: arm for arm in b.arms if arm.name not in {one.name for one in a.arms}}
    found = [(arm, named.get(arm.name) or left.get(arm.recipe_id)) for arm in a.arms]
    return [(one, other) for one, other in found if other is not None]


def _differences(
    a: Analysis, b: Analysis, pairs: Sequence[tuple[ArmFacts, ArmFacts]], metric: str, *, judged: bool
) -> list[Difference]:
    """Compare every arm on one metric and judge them as one family."""
    if metric == SPEED:
        sign, margin, unit = 1, log(1.0 + SPEED_MARGIN), "%"
    else:
        higher = a.higher_is_better if metric == a.primary else None
        sign, margin = (0 if higher is None else 1 if higher else -1), a.margin
        unit = next((summary.unit for summary in a.summaries if summary.metric == metric), "1")
    sides = [(_scores(a, one, metric), _scores(b, other, metric)) for one, other in pairs]
    tested = [_test(one, other, alpha=a.study.alpha, margin=margin) for one, other in sides]
    judged = judged and sign != 0
    adjusted = holm([nan if t.constant or min(t.sizes) < 3 else t.p for t in tested])
    equivalence = holm([nan if t.constant or min(t.sizes) < 3 else t.p_equivalence for t in tested])
    found = []
    for (arm, _), side, t, p_holm, p_equivalence in zip(pairs, sides, tested, adjusted, equivalence, strict=True):
        row = Difference(arm=arm.name, metric=metric, unit=unit, test=t.test, n_a=t.sizes[0], n_b=t.sizes[1])
        row = row.model_copy(update=_numbers(side, t, relative=metric == SPEED))
        if judged and t.test:
            verdict, notes = decide(
                min(t.sizes),
                t.mean,
                p_holm=float(p_holm),
                p_equivalence=float(p_equivalence),
                alpha=a.study.alpha,
                sign=sign,
            )
            row = row.model_copy(
                update={
                    "p": number(t.p),
                    "p_holm": number(p_holm),
                    "p_equivalence": number(p_equivalence),
                    "verdict": verdict,
                    "note": "; ".join(notes),
                }
            )
        found.append(row)
    return found


def _scores(analysis: Analysis, arm: ArmFacts, metric: str) -> dict[int, float]:
    """Return ``{seed: score}``; throughput as its logarithm, so that differences are ratios."""
    if metric == SPEED:
        return {seed: log(speed) for seed, speed in arm.throughput.items() if speed > 0}
    none = Summary(arm=arm.name, metric=metric, unit="1", n=0)
    level = next((s for s in analysis.summaries if s.arm == arm.name and s.metric == metric), none)
    return dict(zip(level.seeds, level.scores, strict=True))


def _test(a: dict[int, float], b: dict[int, float], *, alpha: float, margin: float) -> _Tested:
    sizes = (len(a), len(b))
    if min(sizes) == 0:
        return _Tested("", sizes, nan, nan, nan, nan, nan, constant=False)
    if set(a) == set(b):
        seeds = sorted(a)
        one, other = [b[seed] for seed in seeds], [a[seed] for seed in seeds]
        result = paired_t(one, other, alpha=alpha)
        constant = result.sd == 0.0 and result.mean != 0.0
        p_equivalence = tost(differences(one, other), margin)
        return _Tested("paired", sizes, result.mean, result.low, result.high, result.p, p_equivalence, constant)
    return _welch(list(b.values()), list(a.values()), alpha=alpha, margin=margin)


def _welch(one: Sequence[float], other: Sequence[float], *, alpha: float, margin: float) -> _Tested:
    """Welch's t test, interval and equivalence of mean(one) - mean(other), on Satterthwaite's degrees of freedom."""
    sizes = (len(other), len(one))
    arrays = [np.asarray(values, dtype=np.float64) for values in (one, other)]
    scale = size_of(*arrays)
    (mean_one, sd_one), (mean_other, sd_other) = (moments(array) for array in arrays)
    mean = float(on_grid(mean_one - mean_other, scale))
    if min(sizes) < 2:
        return _Tested("welch", sizes, mean, nan, nan, nan, nan, constant=False)
    parts = [sd_one**2 / len(one), sd_other**2 / len(other)]
    if sum(parts) == 0.0:
        p_equivalence = 0.0 if zero_below(margin - abs(mean), max(scale, margin)) > 0.0 else 1.0
        return _Tested("welch", sizes, mean, mean, mean, float(mean == 0), p_equivalence, constant=mean != 0)
    error = sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    half = -float(stdtrit(df, alpha / 2)) * error
    low, high = (zero_below(end, scale) for end in (mean - half, mean + half))
    p_equivalence = max(upper_p((mean + margin) / error, df), upper_p((margin - mean) / error, df))
    return _Tested("welch", sizes, mean, low, high, two_sided_p(mean / error, df), p_equivalence, constant=False)


def _numbers(side: tuple[dict[int, float], dict[int, float]], t: _Tested, *, relative: bool) -> dict[str, float | None]:
    means = [sum(scores.values()) / len(scores) if scores else nan for scores in side]
    values = [t.mean, t.low, t.high]
    if relative:
        means = [exp(mean) for mean in means]
        values = [100.0 * (exp(value) - 1.0) for value in values]
    names = ("mean_a", "mean_b", "estimate", "low", "high")
    return {name: number(value) for name, value in zip(names, (*means, *values), strict=True)}
