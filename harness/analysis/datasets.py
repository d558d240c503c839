"""A table of several data sets: an arm's score at a seed is its mean over all of them; effects within each as well.

One seed may train on every data set, so that its runs are no independent ones: the difference of a
seed is the mean of its differences over the data sets, and seeds are what an interval counts. The
data sets are taken as they are, not as a sample of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.effects import effect_of, with_judgement
from harness.analysis.looks import LookState
from harness.analysis.model import Check, Effect
from harness.analysis.table import Table
from harness.analysis.verdicts import judge
from harness.stats import differences, paired_t


def reading_on(dataset: str) -> str:
    """Return the name under which a trial keeps its score on one data set, among its readings."""
    return f"on {dataset}"


def dataset_effects(table: Table, state: LookState) -> list[Effect]:
    """Return the difference of every arm to its reference within every data set, on the primary metric.

    All of them are one Holm family, apart from that of the arms over all data sets.
    """
    results = {}
    for arm in table.arms:
        if not arm.reference or arm.name in state.reasons:
            continue
        among = state.own[arm.name]
        seeds, _, _ = table.pairs(arm.name, arm.reference, table.study.metric, among)
        for dataset in table.study.datasets:
            results[arm.name, dataset] = tuple(
                [_score_on(table, name, seed, dataset) for seed in seeds]
                for name in (arm.name, arm.reference)
            )
    values = {place: differences(*pair).tolist() for place, pair in results.items()}
    judged = judge(
        {_term(place): series for place, series in values.items()},
        alpha=table.study.alpha,
        margin=table.margin,
        sign=table.sign,
        has_direction=table.primary.higher_is_better is not None,
        family=table.study.family * len(table.study.datasets),
    )
    effects = []
    for place, (scores, reference) in results.items():
        effect = effect_of(
            paired_t(scores, reference, alpha=table.study.alpha),
            kind="dataset",
            term=_term(place),
            reference=table.arms[0].name,
            metric=table.study.metric,
            unit=table.primary.unit,
            differences=values[place],
        )
        effects.append(with_judgement(effect, judged.get(_term(place))))
    return effects


def _score_on(table: Table, arm: str, seed: int, dataset: str) -> float:
    return table.runs[arm][seed].trial.readings[reading_on(dataset)] * table.primary.scale


def _term(place: tuple[str, str]) -> str:
    return f"{place[0]} on {place[1]}"


def over_data_sets(table: Table, effects: Sequence[Effect]) -> Check | None:
    """Say what an effect over data sets is, and of which arms two of them disagree; None without several data sets."""
    sets = table.study.datasets
    if len(sets) < 2:
        return None
    verdicts: Mapping[str, str] = {e.term: e.verdict for e in effects if e.kind == "dataset"}
    both = []
    for arm in table.arms[1:]:
        mine = {verdicts.get(_term((arm.name, name)), "") for name in sets}
        if {"better", "worse"} <= mine:
            both.append(arm.name)
    if not both:
        what = f"a seed counts once, by its mean over {len(sets)} data sets, because one seed may train on all of them"
        return Check(level="ok", name="data sets", what=what)
    what = f"{', '.join(both)}: better on one data set and worse on another"
    return Check(
        level="warn",
        name="data sets",
        what=what,
        hint="read the effects by data set; the mean over them hides the difference",
    )
