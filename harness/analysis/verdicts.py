"""The rules by which differences become verdicts and words. No name of an arm is looked at anywhere here.

Verdict of an effect on the primary metric, in this order:

1. fewer than 3 pairs: none;
2. ``equivalent``: both one-sided tests put it inside the margin (Holm over the family). When it
   also differs from zero (as in 3), the note says "measurable, below the margin";
3. ``better`` or ``worse``: its two-sided p, adjusted by Holm over the family, is below alpha;
4. ``unresolved``: everything else. Never "no effect".

A verdict from 3 or 4 pairs is noted as exploratory. Equal differences on every seed have no
variance to test with, and on a coarse metric with few seeds they happen by chance: unresolved, with
that reason; zero on every seed is called a tie.

Word of an arm, from its verdict on the primary metric and the difference in its overfitting gap.
Both have to be resolved, the gap by its own p, adjusted by Holm over the arms as a family of its
own (uncorrected, 12.7 % of studies of nothing get a word):

    gap      better        equivalent    worse
    falls    regularises   regularises   underfits
    rises    helps         -             hurts

An arm whose gap or accuracy is unresolved gets no word: its intervals are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan

import numpy as np
import numpy.typing as npt

from harness.analysis.model import Verdict
from harness.stats import (
    Boundary,
    holm,
    level_at,
    look_statistics,
    one_sample_t,
    sequential_p,
    sequential_tost,
    tost,
)
from harness.study.study import Study
from harness.text import plural

FEWEST_PAIRS = 3  # below, no verdict
FIRM_PAIRS = 5  # below, the verdict is exploratory
BELOW_MARGIN = "measurable, below the margin"
SAME_ON_EVERY_SEED = "the same difference on every seed: no variance to test with"
TIE = "tie on every seed"
NO_SPREAD = "no arm varies: no variance to test with"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a family of tests says about one of its members; what is not known is None."""

    p: float | None
    p_holm: float | None
    p_equivalence: float | None
    verdict: Verdict
    notes: tuple[str, ...] = ()


def judge(
    differences: Mapping[str, Sequence[float]],
    *,
    alpha: float,
    margin: float,
    sign: int = 1,
    looks: Sequence[int] = (),
    boundary: Boundary = "wang-tsiatis",
    has_direction: bool = True,
    family: int = 0,
) -> dict[str, Judgement]:
    """Judge a family of effects from their per-seed differences.

    Args:
        differences: one difference a seed in seed order, for each member of the family; with looks,
            as many as a look has.
        alpha: family-wise level.
        margin: largest difference not worth acting on, in the unit of the differences.
        sign: 1 when more is better, -1 when less is.
        looks: all declared looks; empty for a fixed number of seeds.
        boundary: declared with the looks.
        has_direction: False for a metric without a better end, which can be equivalent but neither
            better nor worse.
        family: as `judge_tested` takes it.

    Returns:
        A judgement for each member.
    """
    tested = {}
    for name, values in differences.items():
        mean = one_sample_t(values).mean if values else 0.0
        tested[name] = (len(values), mean, *_p_values(values, margin, looks, boundary))
    return judge_tested(tested, alpha=alpha, sign=sign, has_direction=has_direction, family=family)


def judge_tested(
    tested: Mapping[str, tuple[int, float, float, float]],
    *,
    alpha: float,
    sign: int = 1,
    has_direction: bool = True,
    family: int = 0,
    unit: str = "pair",
) -> dict[str, Judgement]:
    """Judge a family of effects that were tested one by one: Holm over both tests, then the verdicts.

    Args:
        tested: ``{name: (n, mean, two-sided p, p for equivalence)}``; nan where no test can be made.
        alpha: family-wise level.
        sign: 1 when more is better, -1 when less is.
        has_direction: False for a metric without a better end.
        family: how many effects the correction counts, where more were looked at than are here; the
            others then count as the last of the family, which errs to the safe side.
        unit: what n counts.

    Returns:
        A judgement for each member.
    """
    others = [1.0] * max(0, family - len(tested))
    enough = [
        (p, p_equal) if n >= FEWEST_PAIRS else (nan, nan) for n, _, p, p_equal in tested.values()
    ]
    adjusted = holm([*(p for p, _ in enough), *others])
    equivalence = holm([*(p for _, p in enough), *others])
    judged = {}
    for (name, (n, mean, _, _)), (p, _), p_holm, p_equivalence in zip(
        tested.items(), enough, adjusted.tolist(), equivalence.tolist(), strict=False
    ):
        verdict, notes = decide(
            n,
            mean,
            p_holm=p_holm,
            p_equivalence=p_equivalence,
            alpha=alpha,
            sign=sign * has_direction,
            unit=unit,
        )
        judged[name] = Judgement(number(p), number(p_holm), number(p_equivalence), verdict, notes)
    return judged


def _p_values(
    values: Sequence[float], margin: float, looks: Sequence[int], boundary: Boundary
) -> tuple[float, float]:
    """Return (two-sided p, p for equivalence); nan where no test can be made."""
    if len(values) < FEWEST_PAIRS:
        return nan, nan
    plain = one_sample_t(values)
    # differences that are all equal have no variance to test with
    if plain.sd == 0.0:
        return nan, nan
    if not looks:
        return plain.p, tost(values, margin)
    path = look_statistics(values, looks)
    p_equivalence = sequential_tost(values, margin, looks=looks, boundary=boundary)
    return sequential_p(path, looks, boundary=boundary), p_equivalence


def decide(
    n: int,
    mean: float,
    *,
    p_holm: float,
    p_equivalence: float,
    alpha: float,
    sign: int,
    unit: str = "pair",
) -> tuple[Verdict, tuple[str, ...]]:
    """Return a verdict and what has to be said with it, by the rules at the top of this module.

    Args:
        n: pairs, or runs of the smaller group.
        mean: difference, in any unit.
        p_holm: adjusted p; nan when there was no variance to test with.
        p_equivalence: adjusted p for equivalence.
        alpha: family-wise level.
        sign: 1 when more is better, -1 when less is, 0 when neither is.
        unit: what n counts: pairs, or runs.
    """
    if n < FEWEST_PAIRS:
        return "", (f"{plural(n, unit)}: no verdict",)
    notes = ["exploratory"] if n < FIRM_PAIRS else []
    if isnan(p_holm):
        same = SAME_ON_EVERY_SEED if mean else TIE
        return "unresolved", (*notes, same if unit == "pair" else NO_SPREAD)
    # Equivalence first: an effect that differs from 0 and lies inside the margin is not worth acting on.
    if p_equivalence < alpha:
        return "equivalent", tuple([*notes, BELOW_MARGIN] if p_holm < alpha else notes)
    if p_holm < alpha and sign:
        return ("better" if mean * sign > 0 else "worse"), tuple(notes)
    return "unresolved", tuple(notes)


def word(verdict: Verdict, gap: str) -> str:
    """Return regularises, underfits, helps, hurts or nothing, by the table at the top of this module.

    Args:
        verdict: on the primary metric.
        gap: ``wider``, ``narrower``, or nothing where the gap does not measurably differ from
            the reference's.
    """
    if gap == "narrower":
        return {"better": "regularises", "equivalent": "regularises", "worse": "underfits"}.get(
            verdict, ""
        )
    return {"better": "helps", "worse": "hurts"}.get(verdict, "") if gap == "wider" else ""


def gap_direction(estimate: float | None, p_holm: float | None, alpha: float) -> str:
    """Return ``wider`` or ``narrower`` when a gap difference differs from 0 (Holm in its family), else nothing."""
    if estimate is None or p_holm is None or p_holm >= alpha:
        return ""
    return "wider" if estimate > 0 else "narrower"


def interval_alpha(study: Study, seeds: int) -> float:
    """Return the level of an interval over some seeds: alpha, or with looks that of the last look, for a repeated interval."""
    if not study.looks:
        return study.alpha
    return level_at(seeds, study.looks, alpha=study.alpha, boundary=study.boundary)


def number(value: float | np.floating[npt.NBitBase] | None) -> float | None:
    """Return a float, or None where it is not finite, so that files hold no nan."""
    return float(value) if value is not None and isfinite(value) else None
