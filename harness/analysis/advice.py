"""What follows from an analysis: what it could have found, how many seeds are missing, which recipe to try next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from typing import Any

from harness.analysis.model import Effect
from harness.analysis.table import Table
from harness.design import Arm
from harness.errors import UsageError
from harness.stats import detectable_effect, seeds_needed

_RESOLVING_POWER = 0.8


def pooled_sd(effects: Sequence[Effect]) -> float | None:
    """Return the sd of per-seed differences pooled over effects (root mean square, weighted by degrees of freedom).

    None when no effect has at least two pairs, or nothing varies.
    """
    spread = [(effect.n - 1, effect.sd) for effect in effects if effect.sd is not None and effect.n > 1]
    weight = sum(df for df, _ in spread)
    pooled = sqrt(fsum(df * sd * sd for df, sd in spread) / weight) if weight else 0.0
    return pooled or None


def detectable(table: Table, effects: Sequence[Effect]) -> float | None:
    """Return the smallest effect on the primary metric that these seeds find with 80 % power, before Holm's correction.

    From the pooled sd of the differences; in the unit of the metric. None below two seeds.
    """
    sd, n = pooled_sd(effects), max((effect.n for effect in effects), default=0)
    if sd is None or n < 2:
        return None
    return detectable_effect(sd / sqrt(2.0), n, alpha=table.study.alpha, power=_RESOLVING_POWER)


def needed(table: Table, effects: Sequence[Effect]) -> dict[str, int]:
    """Return ``{term: seeds}`` that 80 % power for the observed effect would take, for each unresolved effect.

    An observed effect below the margin is asked for at the margin: smaller ones are not worth acting on. At alpha over the size
    of the effect's family, which is what Holm asks of the smallest p, and always more seeds than have left it unresolved.
    """
    found = {}
    families = Counter(effect.kind for effect in effects)
    for effect in effects:
        if effect.verdict != "unresolved" or effect.estimate is None or not effect.sd:
            continue
        size, alpha = max(abs(effect.estimate), table.margin), table.study.alpha / families[effect.kind]
        try:
            seeds = seeds_needed(effect.sd / sqrt(2.0), size, alpha=alpha, power=_RESOLVING_POWER)
            found[effect.term] = max(seeds, effect.n + 1)
        except UsageError:  # beyond any number that is worth printing
            continue
    return found


def recommend(table: Table, effects: Sequence[Effect]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what to set on top of the baseline's recipe, and one sentence a change, largest gain first.

    Kept: arms that are better than the baseline. Dropped: components whose absence is better or equivalent. By design: in a
    factorial or a fraction the main effects speak; where components are left out, the arms without them; with add-one-in alone,
    the arms that add them to nothing. Of several changes to one field the largest gain stands. Each change was judged on its
    own: whether they add up is not known until the recommended recipe is run on fresh seeds. A study decided on test images
    recommends nothing, nor does a table of runs without recipes.

    Args:
        table: joined trials.
        effects: of arms and terms on the primary metric, with verdicts.
    """
    if table.study.table or table.study.metric.startswith("test") or table.primary.higher_is_better is None:
        return {}, ()
    arms = {arm.name: arm for arm in table.arms}
    proposals: list[tuple[float, dict[str, Any], str]] = []
    for effect in effects:
        change = _change(table, effect, arms)
        if change is not None and effect.estimate is not None:
            fields, gain, told = change
            proposals.append((gain, fields, told))
    chosen: dict[str, Any] = {}
    reasons = []
    for _, fields, told in sorted(proposals, key=lambda item: (-item[0], sorted(item[1]))):
        if not set(fields) & set(chosen):
            chosen.update(fields)
            reasons.append(told)
    return chosen, tuple(reasons)


def _change(table: Table, effect: Effect, arms: Mapping[str, Arm]) -> tuple[dict[str, Any], float, str] | None:
    """Return (fields to set, gain in the primary metric, sentence) when an effect asks for a change of the baseline."""
    estimate = (effect.estimate or 0.0) * table.sign
    told = f"{effect.verdict}, {effect.estimate or 0.0:+.2f} {effect.unit}"
    factorial = table.study.design in ("factorial", "fraction")
    if effect.kind == "main" and factorial and effect.verdict in ("worse", "equivalent"):
        return _off(table, effect.term), -estimate, f"drop {effect.term}: with it {told}"
    arm = arms.get(effect.term) if effect.kind == "arm" else None
    if arm is None or (arm.components and factorial):
        return None
    if arm.reference != table.arms[0].name:  # add-one-in: the component alone against nothing
        alone = [name for name, level in arm.components.items() if level == table.arms[0].components.get(name)]
        if table.study.design == "add-one-in" and effect.verdict in ("worse", "equivalent") and len(alone) == 1:
            return _off(table, alone[0]), -estimate, f"drop {alone[0]}: on its own {told}"
        return None
    if effect.verdict == "better" or (effect.verdict == "equivalent" and _leaves_one_out(table, arm)):
        return dict(arm.overrides), estimate, f"{'adopt' if effect.verdict == 'better' else 'simplify to'} {arm.name}: {told}"
    return None


def _leaves_one_out(table: Table, arm: Arm) -> bool:
    """Whether an arm is the baseline without one of its components."""
    if table.study.design not in ("leave-one-out", "both") or not arm.components:
        return False
    base = table.arms[0].components
    changed = [name for name, level in arm.components.items() if level != base.get(name)]
    return len(changed) == 1


def _off(table: Table, factor_name: str) -> dict[str, Any]:
    factor = next(factor for factor in table.study.factors if factor.name == factor_name)
    return factor.setting(factor.off)
