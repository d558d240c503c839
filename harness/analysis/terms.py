"""Effects of the components of a design that switches them: main effects, interactions, Shapley values, first in and last in.

All of them are "with the component" minus "without it", so that a component that helps has a
positive sign on accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from harness.analysis.effects import effect_of, look_notes, with_judgement
from harness.analysis.looks import LookState
from harness.analysis.model import Effect
from harness.analysis.standing import AT_CHANCE
from harness.analysis.table import Table
from harness.analysis.verdicts import Judgement, interval_alpha, judge
from harness.stats import differences, factorial_contrast, one_sample_t, shapley
from harness.study.arms import switches
from harness.study.fraction import alias_table
from harness.study.trial import Metric

_OFF, _ADDITIVE = "off", "additive"  # what a main effect and an interaction are compared with


def aliases(table: Table) -> tuple[tuple[str, ...], ...]:
    """Return the groups of two-factor interactions of a fraction that share a contrast, each by its printed names."""
    return tuple(tuple(map(pair_name, group)) for group in _pairs(table) if len(group) > 1)


def _pairs(table: Table) -> list[tuple[tuple[str, ...], ...]]:
    """Return the two-factor interactions of a fraction, those that share a contrast in one group."""
    return [
        (alias.term, *alias.with_) for alias in alias_table(table.study) if len(alias.term) == 2
    ]


def pair_name(term: Sequence[str]) -> str:
    """Return the printed name of a term: ``crop`` or ``crop x flip``."""
    return " x ".join(term)


def term_effects(
    table: Table, state: LookState, *, exploratory: Sequence[str] = ()
) -> list[Effect]:
    """Return main effects, two-factor interactions and, of a full factorial, Shapley values, on every metric.

    Holm runs over the main effects and over the interactions, each its own family, on the primary
    metric. Shapley values have intervals alone. Every arm of the design must have completed a seed
    for it to count; with an arm whose runs allow no verdict there is none.
    """
    if table.study.design not in ("factorial", "fraction"):
        return []
    on = switches(table.study, table.arms)
    names = [factor.name for factor in table.study.factors]
    troubled = sorted(arm for arm in on if arm in state.reasons and _matters(state.reasons[arm]))
    reason = f"arm {troubled[0]} is {state.reasons[troubled[0]]}" if troubled else ""

    effects: list[Effect] = []
    for metric in table.metrics.values():
        seeds = _shared_seeds(table, state, list(on), metric.name)
        if not seeds or len(names) < 2:
            continue
        scores = {arm: [table.runs[arm][seed].scores[metric.name] for seed in seeds] for arm in on}
        primary = metric.name == table.study.metric
        notes: list[str] = []
        if primary:
            notes = [reason] if reason else []
            notes += [*look_notes(table, state, "", reason), *exploratory]

        for kind, members in _contrasts(table, on, names, scores).items():
            # Shapley values are averages of the effects that the other families have tested.
            barred = reason or not primary or kind == "shapley" or state.withheld
            judged = {} if barred else _judge(table, members)
            effects += [
                _effect(
                    table,
                    metric,
                    kind=kind,
                    term=term,
                    series=series,
                    judgement=judged.get(term),
                    notes=notes,
                )
                for term, series in members.items()
            ]
    return effects


def main_series(table: Table, state: LookState, metric: str) -> dict[str, dict[int, float]]:
    """Return ``{component: {seed: main effect}}`` of a factorial or a fraction; empty where no seed has every arm."""
    on = switches(table.study, table.arms)
    names = [factor.name for factor in table.study.factors]
    seeds = _shared_seeds(table, state, list(on), metric)
    if not seeds or len(names) < 2:
        return {}
    scores = {arm: [table.runs[arm][seed].scores[metric] for seed in seeds] for arm in on}
    mains = _contrasts(table, on, names, scores)["main"]
    return {name: dict(zip(seeds, values, strict=True)) for name, values in mains.items()}


def _matters(reason: str) -> bool:
    """Whether what is wrong with one arm takes the verdict from every contrast: at chance and without effect it does not."""
    return reason not in (AT_CHANCE, "did nothing") and not reason.startswith("its reference")


def _shared_seeds(table: Table, state: LookState, arms: Sequence[str], metric: str) -> list[int]:
    """Seeds at which every arm of the design completed and carries the metric, up to the last look."""

    def carries(arm: str, seed: int) -> bool:
        complete = table.status(arm, seed) == "complete" and seed in state.shown[arm]
        return complete and metric in table.runs[arm][seed].scores

    return [seed for seed in table.seeds if all(carries(arm, seed) for arm in arms)]


def _contrasts(
    table: Table,
    on: Mapping[str, tuple[bool, ...]],
    names: Sequence[str],
    scores: Mapping[str, list[float]],
) -> dict[str, dict[str, list[float]]]:
    """Return ``{kind: {term: one value a seed}}``; aliased interactions share one entry under all their names."""
    arms = list(on)
    raw = factorial_contrast([scores[arm] for arm in arms], [on[arm] for arm in arms])
    by_name = {tuple(names[k] for k in term): value.tolist() for term, value in raw.items()}
    mains = {name: by_name[name,] for name in names}
    if table.study.design == "fraction":
        # aliased interactions are one contrast: which of them it is no run can say
        pairs = {" + ".join(map(pair_name, group)): by_name[group[0]] for group in _pairs(table)}
        return {"main": mains, "interaction": pairs}

    pairs = {pair_name(pair): by_name[pair] for pair in combinations(names, 2)}
    values = {frozenset(k for k, state in enumerate(on[arm]) if state): scores[arm] for arm in arms}
    shares = dict(zip(names, shapley(values, len(names)).tolist(), strict=True))
    return {"main": mains, "interaction": pairs, "shapley": shares}


def _judge(table: Table, members: Mapping[str, Sequence[float]]) -> dict[str, Judgement]:
    direction = table.primary.higher_is_better is not None
    study = table.study
    return judge(
        members,
        alpha=study.alpha,
        margin=table.margin,
        sign=table.sign,
        looks=study.looks,
        boundary=study.boundary,
        has_direction=direction,
    )


def _effect(
    table: Table,
    metric: Metric,
    *,
    kind: str,
    term: str,
    series: Sequence[float],
    judgement: Judgement | None,
    notes: Sequence[str],
) -> Effect:
    result = one_sample_t(series, alpha=interval_alpha(table.study, len(series)))
    reference = _ADDITIVE if kind == "interaction" else _OFF
    effect = effect_of(
        result,
        kind=kind,
        term=term,
        reference=reference,
        metric=metric.name,
        unit=metric.unit,
        differences=list(series),
    )
    return with_judgement(effect, judgement, notes=notes)


def orders(table: Table, state: LookState) -> list[Effect]:
    """Return what each component adds when it comes last and when it comes first, where the design has both arms.

    leave-one-out: everything on minus everything but the component. add-one-in: the component alone
    minus nothing. They differ where components interact; Shapley's value averages over all orders.
    Intervals only.
    """
    on = switches(table.study, table.arms)
    by_state = {states: arm for arm, states in on.items()}
    count = len(table.study.factors)
    full, empty = (True,) * count, (False,) * count
    shown = [table.metrics[m] for m in (table.study.metric, table.gap) if m in table.metrics]

    effects = []
    for metric in shown:
        # of a single component both orders are its arm's effect
        for k, factor in enumerate(table.study.factors if count > 1 else ()):
            all_but = tuple(j != k for j in range(count))
            alone = tuple(j == k for j in range(count))
            for kind, *states in (
                ("leave-one-out", full, all_but),
                ("add-one-in", alone, empty),
            ):
                if all(switched in by_state for switched in states):
                    pair = (by_state[states[0]], by_state[states[1]])
                    effects.append(
                        _difference(table, state, metric, kind=kind, term=factor.name, pair=pair)
                    )
    return effects


def _difference(
    table: Table, state: LookState, metric: Metric, *, kind: str, term: str, pair: tuple[str, str]
) -> Effect:
    arm, without = pair
    among = [seed for seed in state.shown[arm] if seed in state.shown[without]]
    wrong = {name: state.reasons[name] for name in pair if name in state.reasons}
    _, scores, reference = table.pairs(arm, without, metric.name, among)
    values = differences(scores, reference).tolist()
    # of an arm that was stopped, the scores are of its lucky seeds
    if any(why.startswith("censored") for why in wrong.values()):
        values = []
    result = one_sample_t(values, alpha=interval_alpha(table.study, len(among)))
    return effect_of(
        result,
        kind=kind,
        term=term,
        reference=without,
        metric=metric.name,
        unit=metric.unit,
        differences=values,
        note="; ".join(f"{name}: {why}" for name, why in wrong.items()),
    )
