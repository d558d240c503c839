"""Questions that every part of a report asks an analysis: which metric, which effects, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from harness.analysis import Analysis, ArmFacts, Effect, Summary
from harness.study.trial import METRICS, Metric

MOST_DRAWN = 60  # arms in one figure; more would be a strip that nobody reads
# images at their own size; the images themselves are seldom where a report is written
SIDES = {"cifar10": 32, "cifar100": 32, "svhn": 32, "fashion": 28, "fashion-mnist": 28, "digits": 8}
_ORDER = {"better": 0, "worse": 1, "equivalent": 2, "unresolved": 3, "": 4}


def metric_of(analysis: Analysis, name: str = "") -> Metric:
    """Return a metric's unit, direction and label; of the study's own metric when no name is given.

    Where the test set draws the curves for want of validation images, the label says so.
    A metric of a user's own, which ``METRICS`` does not list, takes its unit and its direction
    from the analysis.
    """
    name = name or analysis.study.metric
    # a metric of ours has its direction and label from one place; a table's column keeps its own
    known = METRICS.get(name) if not analysis.study.table else None
    if known is not None:
        return (
            replace(known, label=of_test_set(known.label))
            if analysis.study.without_validation
            else known
        )
    units = [s.unit for s in analysis.summaries if s.metric == name] + [
        e.unit for e in analysis.effects if e.metric == name
    ]
    higher = analysis.higher_is_better if name == analysis.study.metric else None
    unit: Literal["pp", "1", "own"] = "pp" if "pp" in units[:1] else "1"
    if "own" in units[:1]:
        unit = "own"
    # a table's column is called as it is called there
    own = name if analysis.study.table else name.rpartition(":")[2].replace("_", " ")
    return Metric(name, unit, higher, "overfitting gap" if name == analysis.gap else own)


def of_test_set(text: str) -> str:
    """Return words about validation as they are where the test set takes its place: ``test accuracy (used for validation)``."""
    if "validation" not in text:
        return text
    said = text.replace("validation", "test")
    return (
        f"{said[:-1]}; used for validation)"
        if said.endswith(")")
        else f"{said} (used for validation)"
    )


def on_held_out(analysis: Analysis, what: str) -> str:
    """Return ``validation WHAT``, or what that is of where there are no validation images."""
    text = f"validation {what}".strip()
    return of_test_set(text) if analysis.study.without_validation else text


def effects_of(analysis: Analysis, kind: str, metric: str = "") -> list[Effect]:
    """Return the effects of one kind on one metric (the study's own when none is named), in the order of the analysis."""
    metric = metric or analysis.study.metric
    return [
        effect for effect in analysis.effects if effect.kind == kind and effect.metric == metric
    ]


def second_metric(analysis: Analysis) -> str:
    """Return the metric shown next to the study's own: its gap, or accuracy where the gap is what decides."""
    return "accuracy" if analysis.study.metric == analysis.gap else analysis.gap


def leading(analysis: Analysis) -> list[Effect]:
    """Return the effects that answer the question: main effects where a design gives them, else those of the arms."""
    return effects_of(analysis, "main") or effects_of(analysis, "arm")


def corrected_over(analysis: Analysis, effects: Sequence[Effect]) -> int:
    """Return how many effects Holm's correction of a family counts: more than are here where the best of many arms are shown."""
    return (analysis.study.family if effects and effects[0].kind == "arm" else 0) or len(effects)


def effect_on(analysis: Analysis, effect: Effect, metric: str) -> Effect | None:
    """Return the same contrast on another metric."""
    for other in analysis.effects:
        if (other.kind, other.term, other.reference, other.metric) == (
            effect.kind,
            effect.term,
            effect.reference,
            metric,
        ):
            return other
    return None


def arm_of(analysis: Analysis, name: str) -> ArmFacts | None:
    """Return what is known of an arm."""
    return next((arm for arm in analysis.arms if arm.name == name), None)


def summary_of(analysis: Analysis, arm: str, metric: str) -> Summary | None:
    """Return an arm's level of a metric."""
    return next((s for s in analysis.summaries if s.arm == arm and s.metric == metric), None)


def has_metric(analysis: Analysis, metric: str) -> bool:
    """Return whether any arm has a mean of the metric."""
    return any(s.metric == metric and s.mean is not None for s in analysis.summaries)


def in_order(analysis: Analysis, effects: Sequence[Effect]) -> list[Effect]:
    """Return effects as a reader wants them: by reference, then from the best to the worst; sweeps in the order of levels.

    Without a direction (the gap), from the largest to the smallest.
    """
    references = list(
        dict.fromkeys([analysis.study.baseline, *(effect.reference for effect in effects)])
    )
    place = {effect: index for index, effect in enumerate(effects)}
    # the best comes first, whichever end that is
    sign = -1.0 if metric_of(analysis).higher_is_better is False else 1.0

    def key(effect: Effect) -> tuple[float, ...]:
        head = float(references.index(effect.reference))
        # levels have an order of their own
        if analysis.study.design == "sweep":
            return (head, place[effect])
        return (head, effect.estimate is None, -sign * (effect.estimate or 0.0), place[effect])

    return sorted(effects, key=key)


def drawn(effects: Sequence[Effect]) -> tuple[list[Effect], str]:
    """Return the effects that a figure has room for, and a sentence on the others: of many, the first and the last.

    Args:
        effects: in the order of `in_order`, from the best to the worst.
    """
    if len(effects) <= MOST_DRAWN:
        return list(effects), ""
    half = MOST_DRAWN // 2
    told = f" Of {len(effects):,} arms the first {half} and the last {half} are drawn; the tables have all."
    return [*effects[:half], *effects[-half:]], told


def by_verdict(effects: Sequence[Effect]) -> dict[str, list[Effect]]:
    """Return effects grouped by verdict: better, worse, equivalent, unresolved and, under an empty name, not judged."""
    groups: dict[str, list[Effect]] = {name: [] for name in _ORDER}
    for effect in effects:
        groups[effect.verdict].append(effect)
    return groups


def pixels(analysis: Analysis) -> str:
    """Return the size of the images that were trained on, such as 32 by 32; empty where only the images themselves tell it."""
    data = analysis.study.base_recipe.data
    side = data.size or SIDES.get(data.name)
    return f"{side} × {side}" if side else ""
