"""What follows from an analysis: what it could have found, how many seeds are missing, which recipe to try next.

Components that are equivalent one by one may not be dropped together: five of +1 pp each, dropped
by a margin of 2 pp, cost 5. So the changes are put in order and tested jointly, one more at a time;
the first set that is not shown to stay inside the margin ends it. And what is measurably harmful to
change is never changed, however small the harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isnan, sqrt
from typing import Any

import numpy as np

from harness.analysis.looks import LookState
from harness.analysis.model import Effect
from harness.analysis.table import Table
from harness.analysis.terms import main_series
from harness.errors import UsageError
from harness.stats import (
    detectable_effect,
    differences,
    noninferiority,
    seeds_to_settle,
    sequential_lower_bound,
    sequential_noninferiority,
)
from harness.stats.sequential import boundary_levels
from harness.study.arms import Arm

_RESOLVING_POWER = 0.8
_MOST_SEEDS = 10_000  # more than anybody would run: no number is printed
_FEWEST = 3  # seeds that a joint test takes, as a verdict does
_SWITCHED = ("factorial", "fraction")

Series = Mapping[int, float]
"""A difference at each seed, in the unit shown."""


# What the study can find


def pooled_sd(effects: Sequence[Effect]) -> float | None:
    """Return the sd of per-seed differences pooled over effects (root mean square, weighted by degrees of freedom).

    None when no effect has at least two pairs, or nothing varies.
    """
    spread = [
        (effect.n - 1, effect.sd) for effect in effects if effect.sd is not None and effect.n > 1
    ]
    weight = sum(df for df, _ in spread)
    pooled = sqrt(fsum(df * sd * sd for df, sd in spread) / weight) if weight else 0.0
    return pooled or None


def judged_family(table: Table, effects: Sequence[Effect]) -> list[Effect]:
    """Return the family whose verdicts answer the study: main effects where the design has them, else the arms."""
    mains = [effect for effect in effects if effect.kind == "main"]
    family = (
        mains
        if mains and table.study.design in _SWITCHED
        else [one for one in effects if one.kind == "arm"]
    )
    return [effect for effect in family if effect.metric == table.study.metric]


def detectable(table: Table, effects: Sequence[Effect]) -> float | None:
    """Return the smallest effect on the primary metric that these seeds find with at least 80 % power in its family.

    From the pooled sd of what is judged (main effects in a factorial) at alpha over the size of the
    family, which is what Holm asks of the smallest p; with looks at the level of the last one,
    which ignores what earlier looks add. In the unit of the metric; None below two seeds.

    Args:
        table: joined trials.
        effects: one family, from `judged_family`.
    """
    sd, n = pooled_sd(effects), max((effect.n for effect in effects), default=0)
    if sd is None or n < 2:
        return None
    alpha = _first_step(table, effects)
    if table.study.looks:
        alpha = boundary_levels(table.study.looks, alpha=alpha, boundary=table.study.boundary)[-1]
    return detectable_effect(sd / sqrt(2.0), n, alpha=alpha, power=_RESOLVING_POWER)


def needed(table: Table, effects: Sequence[Effect]) -> dict[str, int]:
    """Return ``{term: seeds}`` that would settle each unresolved effect: better, worse or equivalent with a chance of 80 %.

    At the estimate, with the sd that was seen, at alpha over the size of the effect's family;
    always more seeds than have left it unresolved. An effect that no number of seeds worth printing
    settles is left out.

    Args:
        table: joined trials.
        effects: arms and main effects on the primary metric.
    """
    seeds: dict[str, int] = {}
    for effect in effects:
        if effect.verdict != "unresolved" or effect.estimate is None or not effect.sd:
            continue
        alpha = _first_step(table, [other for other in effects if other.kind == effect.kind])
        try:
            count = seeds_to_settle(
                effect.sd / sqrt(2.0),
                effect.estimate,
                margin=table.margin,
                alpha=alpha,
                power=_RESOLVING_POWER,
            )
        except UsageError:  # right at the margin of an effect that hardly varies
            continue
        if count <= _MOST_SEEDS:
            seeds[effect.term] = max(count, effect.n + 1)
    return seeds


def _first_step(table: Table, family: Sequence[Effect]) -> float:
    """What Holm asks of the smallest p in a family: alpha over the number of effects that could be tested."""
    tested = sum(effect.p is not None for effect in family)
    return table.study.alpha / max(table.study.family, tested or len(family), 1)


# What to change


@dataclass(frozen=True, slots=True)
class Advice:
    """What to set on top of the baseline's recipe, and why.

    Attributes:
        changes: recipe fields; empty when the baseline stays.
        reasons: one sentence a change, in the order to make them.
        kept: one sentence for each change that was judged harmless or better by itself and is not recommended, and why not.
        arm: name of the arm that has exactly this recipe, empty when it was not run.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    arm: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of the baseline that its own verdict allows.

    Attributes:
        name: of the arm adopted or of the component dropped.
        evidence: the verdict on it, with its figure.
        sentence: what to do, and ``evidence``.
        fields: recipe fields to set.
        is_gain: shown to be better, and not only to do no harm.
        estimate: change in the primary metric, positive for the better.
        effects: what speaks about it: each effect with 1 when the change adds it, -1 when the change takes it away.
        series: ``{metric: change at each seed}``.
        helps_alone: what it switches off is better than nothing where it is the only component.
    """

    name: str
    evidence: str
    sentence: str
    fields: Mapping[str, Any]
    is_gain: bool
    estimate: float
    effects: Sequence[tuple[Effect, int]]
    series: Mapping[str, Series]
    helps_alone: bool


def recommend(table: Table, state: LookState, effects: Sequence[Effect]) -> Advice:
    """Return what to change in the baseline's recipe, in order.

    Candidates are arms that are better than the baseline, and components whose absence is better or
    equivalent: by the main effects in a factorial or a fraction; else by the arms without them;
    with add-one-in alone by the arms that add them to nothing. Out go those that measurably harm:
    the interval of the change lies on the wrong side of zero, on the primary metric or, in a study
    that asks about it (``gap_margin_pp``), on the overfitting gap.

    Gains come first, the largest first, then simplifications from the least loss on. Each step
    tests the new change and all accepted ones of its kind together: one-sided paired t of their
    summed change at each seed against minus the margin, at alpha, and the same for the gap. The
    first simplification that fails ends them. A sum assumes that changes add up; where the plan has
    the arm with exactly these changes, its own paired differences are tested instead, and where a
    component helps alone that is harmless to drop, nothing is summed.

    Source of the order: Marcus, Peritz and Gabriel (1976), Biometrika 63 (nested tests need no
    further correction); the order here comes from the estimates, so the loss was simulated (``nox
    -s evidence``).

    Args:
        table: joined trials.
        state: how far the study has come.
        effects: of arms and terms, on every metric, with verdicts on the primary one.

    Returns:
        No change for a study decided on test images, or without a better end, or for a table of
        runs without recipes.
    """
    if (
        table.study.table
        or table.study.metric.startswith("test")
        or table.primary.higher_is_better is None
    ):
        return Advice()

    steps: list[_Change] = []
    reasons: list[str] = []
    kept: list[str] = []
    untried: list[str] = []
    ended = False
    for change in sorted(_candidates(table, state, effects), key=_order):
        if any(set(change.fields) & set(step.fields) for step in steps):
            continue  # a smaller gain in the same field
        harm = _harm(table, change)
        if not harm and ended and not change.is_gain:
            untried.append(change.name)
            continue
        passes, joint = (False, harm) if harm else _joint(table, state, steps, change)
        if passes:
            steps.append(change)
            reasons.append(change.sentence + joint)
        else:
            kept.append(f"{change.name}: {change.evidence}, but {joint}")
            ended = ended or not (harm or change.is_gain)

    if untried:
        kept.append(f"{', '.join(untried)}: not tried after that")
    changes = {name: value for step in steps for name, value in step.fields.items()}
    arm = _arm_with(table, steps)
    return Advice(changes, tuple(reasons), tuple(kept), arm.name if arm is not None else "")


def _order(change: _Change) -> tuple[bool, float, list[str]]:
    """Gains first, then by estimate; the fields break ties, because names and the order of arms must not."""
    return not change.is_gain, -change.estimate, sorted(change.fields)


# Candidates


def _candidates(table: Table, state: LookState, effects: Sequence[Effect]) -> list[_Change]:
    """Every change of the baseline that the verdict on it allows."""
    arms = {arm.name: arm for arm in table.arms}
    by_place = {(effect.kind, effect.term, effect.metric): effect for effect in effects}
    switched = table.study.design in _SWITCHED
    mains = (
        {metric: main_series(table, state, metric) for metric in asked(table)} if switched else {}
    )
    changes = []
    for effect in effects:
        action = _action(table, effect, arms) if effect.metric == table.study.metric else None
        if action is None:
            continue
        verb, name, fields, way = action

        # What speaks about a main effect is also the arm that lacks just this component.
        places = [(effect.kind, effect.term)]
        if effect.kind == "main":
            alone = _arm_with(table, [fields])
            places += (
                [("arm", alone.name)]
                if alone is not None and alone.reference == table.arms[0].name
                else []
            )
        about = [
            (by_place[kind, term, metric], way if kind == effect.kind else 1)
            for kind, term in places
            for metric in asked(table)
            if (kind, term, metric) in by_place
        ]
        series = {
            metric: mains[metric].get(effect.term, {})
            if effect.kind == "main"
            else _own(table, state, arms[effect.term], metric)
            for metric in asked(table)
        }
        evidence = f"{'with it ' if way < 0 and effect.kind == 'main' else 'on its own ' if way < 0 else ''}{_verdict(effect)}"
        changes.append(
            _Change(
                name=name,
                evidence=evidence,
                sentence=f"{verb} {name}: {evidence}",
                fields=fields,
                is_gain=effect.verdict in ("better", "worse"),
                estimate=way * (effect.estimate or 0.0) * table.sign,
                effects=about,
                series={
                    metric: {seed: way * value for seed, value in values.items()}
                    for metric, values in series.items()
                },
                helps_alone=_helps_alone(table, fields, effects),
            )
        )
    return changes


def _action(
    table: Table, effect: Effect, arms: Mapping[str, Arm]
) -> tuple[str, str, Mapping[str, Any], int] | None:
    """Return (verb, what, fields to set, 1 or -1 as the change adds the effect or takes it away), or None for no change."""
    switched = table.study.design in _SWITCHED
    if effect.estimate is None:
        return None
    if effect.kind == "main":
        drop = switched and effect.verdict in ("worse", "equivalent")
        return ("drop", effect.term, _off(table, effect.term), -1) if drop else None
    arm = arms.get(effect.term) if effect.kind == "arm" else None
    if arm is None or (arm.components and switched):
        return None

    base = table.arms[0]
    differs = [name for name, level in arm.components.items() if level != base.components.get(name)]
    if arm.reference != base.name:  # the component alone against nothing
        alone = [name for name in arm.components if name not in differs]
        drop = (
            table.study.design == "add-one-in"
            and effect.verdict in ("worse", "equivalent")
            and len(alone) == 1
        )
        return ("drop", alone[0], _off(table, alone[0]), -1) if drop else None
    if effect.verdict == "better":
        return "adopt", arm.name, arm.overrides, 1
    leaves_one_out = table.study.design in ("leave-one-out", "both") and len(differs) == 1
    return (
        ("simplify to", arm.name, arm.overrides, 1)
        if effect.verdict == "equivalent" and leaves_one_out
        else None
    )


def _helps_alone(table: Table, fields: Mapping[str, Any], effects: Sequence[Effect]) -> bool:
    """Whether a component that these fields switch off was better than nothing where it was added alone."""
    off = [
        factor.name
        for factor in table.study.factors
        if _off(table, factor.name).items() <= fields.items()
    ]
    base = table.arms[0]
    for arm in table.arms:
        on = [name for name, level in arm.components.items() if level == base.components.get(name)]
        if arm.reference not in ("", base.name) and len(on) == 1 and on[0] in off:
            verdicts = [
                one.verdict
                for one in effects
                if (one.kind, one.term, one.metric) == ("arm", arm.name, table.study.metric)
            ]
            return "better" in verdicts
    return False


def _harm(table: Table, change: _Change) -> str:
    """Say what a change measurably harms; empty when no interval lies on the wrong side of zero."""
    harms = []
    for effect, way in change.effects:
        if effect.estimate is None or effect.low is None or effect.high is None:
            continue
        low, high = sorted((way * effect.low, way * effect.high))
        interval = f"{way * effect.estimate:+.2f}{_unit(effect.unit)} [{low:+.2f}, {high:+.2f}]"
        if effect.metric != table.study.metric:
            harms += [f"it widens the gap by {interval}"] if low > 0 else []
        elif (high if table.sign > 0 else -low) < 0:
            harms.append(f"the loss is measurable, {interval}")
    return " and ".join(dict.fromkeys(harms))


# Joint tests


def asked(table: Table) -> list[str]:
    """Return the metrics that a recommendation must not harm: the primary one, and the gap where the study asks about it."""
    with_gap = table.study.gap_margin_pp is not None and table.gap != table.study.metric
    return [table.study.metric, *([table.gap] if with_gap else [])]


def _joint(
    table: Table, state: LookState, steps: Sequence[_Change], change: _Change
) -> tuple[bool, str]:
    """Return whether the changes so far and this one are shown to stay inside every margin, and the figures in words.

    Simplifications are tested on top of the gains, so that a gain does not pay for a loss.
    """
    gains = [step for step in steps if step.is_gain]
    group = [*gains, change] if change.is_gain else [*steps, change]
    before = [] if change.is_gain else gains
    members = len(group) - len(before)
    worst = []
    for metric in asked(table):
        total, reason = _total(table, state, group, metric)
        less, other_reason = _total(table, state, before, metric) if before else ({}, "")
        if reason or other_reason:
            return False, reason or other_reason
        seeds = sorted(total.keys() & less.keys() if before else total.keys())
        values = np.array([total[seed] - less.get(seed, 0.0) for seed in seeds])
        passes, loss = _within(table, metric, values, together=members > 1)
        if not passes:
            return False, loss
        worst.append(loss)
    shown = not change.is_gain or members > 1 or len(worst) > 1
    return True, f"; {', '.join(worst)}" if shown else ""


def _total(
    table: Table, state: LookState, changes: Sequence[_Change], metric: str
) -> tuple[Series, str]:
    """Return the joint change at each seed, or why it is not known: of the arm with these changes, else their sum."""
    arm = _arm_with(table, changes)
    if arm is not None:
        reason = state.reasons.get(arm.name, "")
        return _against_baseline(
            table, state, arm, metric
        ), f"arm {arm.name}, which has it, is {reason}" if reason else ""
    redundant = [change.name for change in changes if change.helps_alone]
    if redundant and len(changes) > 1:
        return (
            {},
            f"the changes may not add up: {redundant[0]} is harmless, and what it drops helps alone",
        )
    shared = set.intersection(*(set(change.series[metric]) for change in changes))
    return {seed: fsum(change.series[metric][seed] for change in changes) for seed in shared}, ""


def _within(
    table: Table, metric: str, values: np.ndarray[Any, np.dtype[np.float64]], *, together: bool
) -> tuple[bool, str]:
    """Test that a joint change stays inside the margin of its metric; return the outcome and its figures in words."""
    study, of = table.study, table.metrics.get(metric)
    is_gap = metric != study.metric
    fewest = max(study.looks[0], _FEWEST) if study.looks else _FEWEST
    if of is None or values.size < fewest:
        return (
            False,
            f"{'the gap' if is_gap else 'it'} was not measured on {fewest} seeds or more",
        )
    margin = (study.gap_margin_pp or 0.0) / 100.0 * of.scale if is_gap else table.margin
    better = -values if is_gap else table.sign * values
    if study.looks:
        p = sequential_noninferiority(better, margin, looks=study.looks, boundary=study.boundary)
    else:
        scale = max((abs(run.scores.get(metric, 0.0)) for run in table.all_runs), default=0.0)
        p = noninferiority(better, margin, scale=scale)
    if isnan(p):
        return False, "the change is the same on every seed: no variance to test with"

    # The end of the one-sided interval that the test compares with the margin.
    bound = sequential_lower_bound(
        better, looks=study.looks or (values.size,), alpha=study.alpha, boundary=study.boundary
    )
    worst = -bound if is_gap else table.sign * bound
    mean = float(values.mean())
    name = "the gap " if is_gap else "together " if together else ""
    loss = f"{name}{f'{mean:+.2f}{_unit(of.unit)}, ' if is_gap or together else ''}"
    loss += f"at worst {worst:+.2f}{_unit(of.unit)} (one-sided {100 * (1 - study.alpha):g} %{' repeated' if len(study.looks) > 1 else ''})"
    return (
        p < study.alpha,
        loss if p < study.alpha else f"{loss}, beyond the margin of {margin:g}{_unit(of.unit)}",
    )


def _arm_with(table: Table, changes: Sequence[_Change | Mapping[str, Any]]) -> Arm | None:
    """Return the arm whose recipe is the baseline's with exactly these changes; None when it was not planned."""
    fields: dict[str, Any] = {}
    for change in changes:
        fields.update(change.fields if isinstance(change, _Change) else change)
    recipe = table.arms[0].recipe.try_overrides(fields)[0] if fields else None
    return next(
        (arm for arm in table.arms[1:] if recipe is not None and arm.recipe == recipe), None
    )


def _own(table: Table, state: LookState, arm: Arm, metric: str) -> dict[int, float]:
    """An arm's difference to its reference at each seed."""
    seeds, scores, reference = table.pairs(arm.name, arm.reference, metric, state.own[arm.name])
    return dict(zip(seeds, differences(scores, reference).tolist(), strict=True))


def _against_baseline(table: Table, state: LookState, arm: Arm, metric: str) -> dict[int, float]:
    """An arm's difference to the baseline at each seed, whatever it is compared with in its table."""
    base = table.arms[0].name
    if arm.reference == base:
        return _own(table, state, arm, metric)
    among = [seed for seed in state.shown[arm.name] if seed in state.shown[base]]
    seeds, scores, reference = table.pairs(arm.name, base, metric, among)
    return dict(zip(seeds, differences(scores, reference).tolist(), strict=True))


def _verdict(effect: Effect) -> str:
    return f"{effect.verdict}, {effect.estimate or 0.0:+.2f}{_unit(effect.unit)}"


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"


def _off(table: Table, factor_name: str) -> dict[str, Any]:
    factor = next(factor for factor in table.study.factors if factor.name == factor_name)
    return factor.setting(factor.off)
