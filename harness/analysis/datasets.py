"""A table of several data sets: pairs are of one seed on one data set; effects over all of them and within each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.effects import effect_of, with_judgement
from harness.analysis.looks import LookState
from harness.analysis.model import Check, Effect
from harness.analysis.table import Table
from harness.analysis.verdicts import judge
from harness.stats import differences, paired_t


def dataset_effects(table: Table, state: LookState) -> list[Effect]:
    """Return the difference of every arm to its reference within every data set, on the primary metric.

    All of them are one Holm family, apart from that of the arms over all data sets.
    """
    sets = dict(zip(table.seeds, table.study.datasets, strict=False))
    names = list(dict.fromkeys(sets.values()))
    if len(names) < 2:
        return []
    results = {}
    for arm in table.arms:
        if not arm.reference or arm.name in state.reasons:
            continue
        for name in names:
            among = [seed for seed in state.own[arm.name] if sets[seed] == name]
            pairs = table.pairs(arm.name, arm.reference, table.study.metric, among)
            results[arm.name, name] = pairs
    values = {place: differences(a, b).tolist() for place, (_, a, b) in results.items()}
    judged = judge(
        {_term(place): series for place, series in values.items()},
        alpha=table.study.alpha,
        margin=table.margin,
        sign=table.sign,
        has_direction=table.primary.higher_is_better is not None,
    )
    effects = []
    for place, (_, scores, reference) in results.items():
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


def _term(place: tuple[str, str]) -> str:
    return f"{place[0]} on {place[1]}"


def disagreement(table: Table, effects: Sequence[Effect]) -> Check | None:
    """Say of which arms one data set says better and another worse; None without several data sets."""
    sets = list(dict.fromkeys(table.study.datasets))
    if len(sets) < 2:
        return None
    verdicts: Mapping[str, str] = {e.term: e.verdict for e in effects if e.kind == "dataset"}
    both = []
    for arm in table.arms[1:]:
        mine = {verdicts.get(_term((arm.name, name)), "") for name in sets}
        if {"better", "worse"} <= mine:
            both.append(arm.name)
    pairs = f"a pair is one seed on one data set; an effect over {len(sets)} data sets is the mean of all pairs"
    if not both:
        return Check(level="ok", name="data sets", what=pairs)
    what = f"{', '.join(both)}: better on one data set and worse on another"
    return Check(
        level="warn",
        name="data sets",
        what=what,
        hint="read the effects by data set; the mean over them hides the difference",
    )
