"""Effects of arms on every metric, levels of arms, effects within classes, and the A/A arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
import numpy.typing as npt

from harness.analysis.looks import LookState
from harness.analysis.model import ClassEffect, Effect, Summary
from harness.analysis.table import Table
from harness.analysis.unpaired import group_effects, runs_of_arm
from harness.analysis.verdicts import Judgement, interval_alpha, judge, number
from harness.stats import (
    Mean,
    Paired,
    differences,
    half_width,
    mean_interval,
    one_sample_t,
    paired_t,
    two_way_interval,
)
from harness.study.trial import Outcomes

_NO_ESTIMATE = ("censored", "did nothing")  # reasons for which a number would be read as a result


def summaries(table: Table, state: LookState) -> list[Summary]:
    """Return the level of every arm on every metric, with its t interval over the seeds that completed."""
    found = []
    for arm in table.arms:
        censored = state.reasons.get(arm.name, "").startswith("censored")
        for metric in table.metrics.values():
            seeds, scores = _scores(
                table, arm.name, metric.name, () if censored else state.shown[arm.name]
            )
            alpha = interval_alpha(table.study, len(seeds))
            count, level = len(scores), mean_interval(scores, alpha=alpha)
            if table.study.pairing == "summary":  # the row of an arm is not a run
                group = runs_of_arm(table, arm.name, metric.name)
                half = half_width(group.sd, group.n, alpha) if group.n > 1 else nan
                level = Mean(group.mean, group.sd, group.mean - half, group.mean + half)
                count, seeds, scores = group.n, [], []
            found.append(
                Summary(
                    arm=arm.name,
                    metric=metric.name,
                    unit=metric.unit,
                    n=count,
                    mean=number(level.mean),
                    sd=number(level.sd),
                    low=number(level.low),
                    high=number(level.high),
                    seeds=tuple(seeds),
                    scores=tuple(scores),
                )
            )
    return found


def _scores(
    table: Table, arm: str, metric: str, among: Sequence[int]
) -> tuple[list[int], list[float]]:
    runs = [
        (seed, table.runs[arm, seed]) for seed in among if table.status(arm, seed) == "complete"
    ]
    carried = [(seed, run.scores[metric]) for seed, run in runs if metric in run.scores]
    return [seed for seed, _ in carried], [score for _, score in carried]


def arm_effects(
    table: Table,
    state: LookState,
    *,
    outcomes: Mapping[str, Outcomes],
    exploratory: Sequence[str] = (),
    chance: float | None = None,
) -> list[Effect]:
    """Return the difference of every arm to its reference on every metric; p-values and verdicts on the primary one alone.

    Args:
        table: joined trials.
        state: how far the study has come.
        outcomes: per-image correctness by cell key; buys the interval for new images.
        exploratory: reasons why every verdict is exploratory.
        chance: accuracy of a guessing net in pp, to show an unstable arm with its lost seeds
            counted at chance.
    """
    if table.study.pairing != "seed":
        return group_effects(table, state.judgements, state.reasons)
    found = []
    for arm in table.arms:
        if not arm.reference:
            continue
        reason = state.reasons.get(arm.name, "")
        among = state.own[arm.name]
        alpha = interval_alpha(table.study, len(among))
        for metric in table.metrics.values():
            _, scores, reference = table.pairs(arm.name, arm.reference, metric.name, among)
            if any(word in reason for word in _NO_ESTIMATE):
                scores, reference = [], []
            effect = effect_of(
                paired_t(scores, reference, alpha=alpha),
                kind="arm",
                term=arm.name,
                reference=arm.reference,
                metric=metric.name,
                unit=metric.unit,
                differences=differences(scores, reference).tolist(),
            )
            if metric.name == table.study.metric:
                notes = (
                    [
                        _with_lost(
                            table,
                            (arm.name, arm.reference),
                            among=among,
                            reason=reason,
                            chance=chance,
                        )
                        or reason
                    ]
                    if reason
                    else []
                )
                judgement = None if reason else state.judgements.get(arm.name)
                effect = with_judgement(
                    effect,
                    judgement,
                    notes=[*notes, *look_notes(table, state, arm.name, reason), *exploratory],
                )
            if metric.name == "accuracy" and scores:
                effect = _with_images(effect, table, among=among, outcomes=outcomes)
            found.append(effect)
    return found


def effect_of(
    result: Paired,
    *,
    kind: str,
    term: str,
    reference: str,
    metric: str,
    unit: str,
    differences: Sequence[float],
    note: str = "",
) -> Effect:
    """Return an effect with its estimate and interval, without a verdict."""
    return Effect.model_validate(
        {
            "kind": kind,
            "term": term,
            "reference": reference,
            "metric": metric,
            "unit": unit,
            "n": result.n,
            "estimate": number(result.mean),
            "low": number(result.low),
            "high": number(result.high),
            "sd": number(result.sd),
            "seed_correlation": number(result.seed_correlation),
            "pairing_gain": number(result.pairing_gain),
            "differences": tuple(differences),
            "note": note,
        }
    )


def with_judgement(
    effect: Effect, judgement: Judgement | None, *, notes: Sequence[str] = ()
) -> Effect:
    """Return an effect with what its family's tests said of it; without a judgement the notes alone."""
    if judgement is None:
        return effect.model_copy(update={"note": "; ".join(notes)})
    return effect.model_copy(
        update={
            "p": judgement.p,
            "p_holm": judgement.p_holm,
            "p_equivalence": judgement.p_equivalence,
            "verdict": judgement.verdict,
            "note": "; ".join(dict.fromkeys([*judgement.notes, *notes])),
        }
    )


def look_notes(table: Table, state: LookState, arm: str, reason: str = "") -> list[str]:
    """Say at which look an arm stopped, or that it is between looks, or that the seeds are not all there yet."""
    looks = table.study.looks
    if not looks:
        short = len(state.blocks) < len(table.seeds)
        return (
            [f"provisional ({len(state.blocks)} of {len(table.seeds)} seeds)"]
            if short and not reason
            else []
        )
    if arm in state.stopped:
        return [f"stopped at look {state.stopped[arm]} of {len(looks)}"]
    if state.withheld and not reason:
        return [
            f"between looks ({state.reached} of {len(looks)} reached)"
            if state.reached
            else "before the first look"
        ]
    return []


def _with_lost(
    table: Table, pair: tuple[str, str], *, among: Sequence[int], reason: str, chance: float | None
) -> str:
    """For an arm with diverged seeds: its reason, and the difference with each of them counted at chance.

    A net that diverged guesses. A trial that failed for another reason says nothing about the arm
    and stays out of both.
    """
    if not reason.startswith("unstable") or chance is None or table.study.metric != "accuracy":
        return ""
    runs = [(table.runs.get((pair[0], seed)), table.runs.get((pair[1], seed))) for seed in among]
    both = [
        (one, other)
        for one, other in runs
        if one is not None and other is not None and other.status == "complete"
    ]
    scored = [
        (one.scores.get("accuracy", chance), other.scores["accuracy"])
        for one, other in both
        if one.status in ("complete", "diverged") and "accuracy" in other.scores
    ]
    if not any(one.status == "diverged" for one, _ in both):
        return ""
    mean = paired_t([score for score, _ in scored], [score for _, score in scored]).mean
    return f"{reason}, {mean:+.2f} pp with the diverged seeds counted at chance"


def _with_images(
    effect: Effect, table: Table, *, among: Sequence[int], outcomes: Mapping[str, Outcomes]
) -> Effect:
    """Return the effect with its interval for new seeds and new images, where per-image outcomes are known for every pair."""
    arm, reference = effect.term, effect.reference
    seeds, _, _ = table.pairs(arm, reference, "accuracy", among)
    both = [(table.runs[arm, s].trial.cell, table.runs[reference, s].trial.cell) for s in seeds]
    if len(both) < 2 or any(one not in outcomes or other not in outcomes for one, other in both):
        return effect
    one_SI = [outcomes[one].val_correct_N for one, _ in both]
    other_SI = [outcomes[other].val_correct_N for _, other in both]
    if len({row.size for row in (*one_SI, *other_SI)}) != 1 or one_SI[0].size < 2:
        return effect
    result = two_way_interval(
        np.stack(one_SI), np.stack(other_SI), alpha=interval_alpha(table.study, len(among))
    )
    low, high = number(100 * result.low), number(100 * result.high)
    return effect.model_copy(
        update={"image_low": low, "image_high": high, "sd_real": number(100 * result.sd_seeds)}
    )


def gap_tests(effects: Sequence[Effect], table: Table) -> list[Effect]:
    """Return the effects with p-values on the gap, for those that have one on the deciding metric.

    Holm over the arms, and over the main effects, as families of their own. They buy the words over
    accuracy and gap together.
    """
    judged = {
        (e.kind, e.term) for e in effects if e.metric == table.study.metric and e.p_holm is not None
    }
    tested: dict[tuple[str, str], Judgement] = {}
    for kind in ("arm", "main") if table.gap != table.study.metric else ():
        family = {
            effect.term: effect.differences
            for effect in effects
            if effect.kind == kind and effect.metric == table.gap and (kind, effect.term) in judged
        }
        found = judge(
            family,
            alpha=table.study.alpha,
            margin=table.margin,
            looks=table.study.looks,
            has_direction=False,
        )
        tested |= {(kind, term): judgement for term, judgement in found.items()}
    return [
        effect.model_copy(update={"p": tested[place].p, "p_holm": tested[place].p_holm})
        if effect.metric == table.gap and (place := (effect.kind, effect.term)) in tested
        else effect
        for effect in effects
    ]


def control_effects(table: Table) -> list[Effect]:
    """Return the A/A arm's difference to the baseline, paired by index, on every metric; raw p, outside every family.

    At the study's own alpha, whatever its looks: the A/A arm takes no part in them.
    """
    found = []
    for metric in table.metrics.values():
        pairs = [
            (table.control[s], table.runs[table.arms[0].name, s])
            for s in table.seeds
            if _control_pair(table, s)
        ]
        scores = [
            (one.scores[metric.name], other.scores[metric.name])
            for one, other in pairs
            if metric.name in one.scores and metric.name in other.scores
        ]
        result = paired_t([a for a, _ in scores], [b for _, b in scores], alpha=table.study.alpha)
        effect = effect_of(
            result,
            kind="control",
            term="A/A",
            reference=table.arms[0].name,
            metric=metric.name,
            unit=metric.unit,
            differences=differences([a for a, _ in scores], [b for _, b in scores]).tolist(),
        )
        found.append(
            effect.model_copy(
                update={"p": number(result.p) if metric.name == table.study.metric else None}
            )
        )
    return found if table.control else []


def _control_pair(table: Table, seed: int) -> bool:
    return seed in table.control and table.control[seed].status == "complete" == table.status(
        table.arms[0].name, seed
    )


def class_effects(
    table: Table,
    state: LookState,
    *,
    outcomes: Mapping[str, Outcomes],
    labels_N: npt.NDArray[np.integer[npt.NBitBase]],
    classes: Sequence[str],
) -> list[ClassEffect]:
    """Return every arm's difference in validation accuracy within each class, in pp, with plain t intervals over seeds.

    Args:
        table: joined trials.
        state: how far the study has come.
        outcomes: per-image correctness by cell key.
        labels_N: class of every validation image, in the order of the outcomes.
        classes: names; numbers stand in for those that are missing.
    """
    members = {label: np.flatnonzero(labels_N == label) for label in np.unique(labels_N).tolist()}
    found = []
    for arm in table.arms:
        alpha = interval_alpha(table.study, len(state.own[arm.name]))
        if not arm.reference or any(
            word in state.reasons.get(arm.name, "") for word in _NO_ESTIMATE
        ):
            continue
        rows = []
        for seed in table.pairs(arm.name, arm.reference, table.study.metric, state.own[arm.name])[
            0
        ]:
            one = outcomes.get(table.runs[arm.name, seed].trial.cell)
            other = outcomes.get(table.runs[arm.reference, seed].trial.cell)
            if (
                one is not None
                and other is not None
                and one.val_correct_N.size == other.val_correct_N.size == labels_N.size
            ):
                rows.append(one.val_correct_N.astype(np.float64) - other.val_correct_N)
        for label, index_I in members.items() if rows else ():
            result = one_sample_t(
                [100.0 * float(row_N[index_I].mean()) for row_N in rows], alpha=alpha
            )
            name = classes[label] if 0 <= label < len(classes) else str(label)
            low, high = number(result.low), number(result.high)
            found.append(
                ClassEffect(
                    arm=arm.name, label=name, n=result.n, estimate=result.mean, low=low, high=high
                )
            )
    return found
