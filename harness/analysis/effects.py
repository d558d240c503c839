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
    levels = []
    for arm in table.arms:
        # The mean of an arm that was stopped is one of the seeds that looked good until then.
        censored = state.reasons.get(arm.name, "").startswith("censored")
        among = () if censored else state.shown[arm.name]
        for metric in table.metrics.values():
            scores = table.scores(arm.name, metric.name, among)
            alpha = interval_alpha(table.study, len(scores))
            count, level = len(scores), mean_interval(list(scores.values()), alpha=alpha)
            if table.study.pairing == "summary":  # the row of an arm is not a run
                group = runs_of_arm(table, arm.name, metric.name)
                half = half_width(group.sd, group.n, alpha) if group.n > 1 else nan
                level = Mean(group.mean, group.sd, group.mean - half, group.mean + half)
                count, scores = group.n, {}
            levels.append(
                Summary(
                    arm=arm.name,
                    metric=metric.name,
                    unit=metric.unit,
                    n=count,
                    mean=number(level.mean),
                    sd=number(level.sd),
                    low=number(level.low),
                    high=number(level.high),
                    seeds=tuple(scores),
                    scores=tuple(scores.values()),
                )
            )
    return levels


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
    effects = []
    for arm in table.arms:
        if not arm.reference:
            continue
        reason = state.reasons.get(arm.name, "")
        among = state.own[arm.name]
        alpha = interval_alpha(table.study, len(among))
        notes = [*look_notes(table, state, arm.name, reason), *exploratory]
        if reason:
            pair = (arm.name, arm.reference)
            lost = _with_lost(table, pair, among=among, reason=reason, chance=chance)
            notes.insert(0, lost or reason)

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
                judgement = None if reason else state.judgements.get(arm.name)
                effect = with_judgement(effect, judgement, notes=notes)
            # correctness is all that is kept of an image
            if metric.name == "accuracy" and scores and outcomes:
                effect = _with_images(effect, table, among=among, outcomes=outcomes)
            effects.append(effect)
    return effects


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
    looks, blocks, planned = table.study.looks, len(state.blocks), len(table.seeds)
    if not looks:
        short = blocks < planned and not reason
        return [f"provisional ({blocks} of {planned} seeds)"] if short else []
    if arm in state.stopped:
        return [f"stopped at look {state.stopped[arm]} of {len(looks)}"]
    if not state.withheld or reason:
        return []
    if not state.reached:
        return ["before the first look"]
    return [f"between looks ({state.reached} of {len(looks)} reached)"]


def _with_lost(
    table: Table, pair: tuple[str, str], *, among: Sequence[int], reason: str, chance: float | None
) -> str:
    """For an arm with diverged seeds: its reason, and the difference with each of them counted at chance.

    A net that diverged guesses. A trial that failed for another reason says nothing about the arm
    and stays out of both.
    """
    if not reason.startswith("unstable") or chance is None or table.study.metric != "accuracy":
        return ""
    arm, reference = pair
    both = [
        (table.runs[arm][seed], table.runs[reference][seed])
        for seed in among
        if seed in table.runs[arm] and table.status(reference, seed) == "complete"
    ]
    if not any(run.status == "diverged" for run, _ in both):
        return ""

    scored = [
        (run.scores.get("accuracy", chance), base.scores["accuracy"])
        for run, base in both
        if run.status in ("complete", "diverged") and "accuracy" in base.scores
    ]
    mean = paired_t([score for score, _ in scored], [score for _, score in scored]).mean
    return f"{reason}, {mean:+.2f} pp with the diverged seeds counted at chance"


def _with_images(
    effect: Effect, table: Table, *, among: Sequence[int], outcomes: Mapping[str, Outcomes]
) -> Effect:
    """Return the effect with its interval for new seeds and new images, where per-image outcomes are known for every pair."""
    arm, reference = effect.term, effect.reference
    seeds, _, _ = table.pairs(arm, reference, "accuracy", among)
    cells = [table.runs[name][seed].trial.cell for name in (arm, reference) for seed in seeds]
    if len(seeds) < 2 or not all(cell in outcomes for cell in cells):
        return effect
    rows = [outcomes[cell].val_correct_N for cell in cells]
    # trials of other images cannot be crossed with these
    if len({row.size for row in rows}) != 1 or rows[0].size < 2:
        return effect

    arm_SI, reference_SI = np.stack(rows[: len(seeds)]), np.stack(rows[len(seeds) :])
    alpha = interval_alpha(table.study, len(among))
    result = two_way_interval(arm_SI, reference_SI, alpha=alpha)
    scale = table.metrics["accuracy"].scale
    return effect.model_copy(
        update={
            "image_low": number(scale * result.low),
            "image_high": number(scale * result.high),
            "sd_images": number(scale * result.sd_sample),
        }
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
    # A study that decides by the gap has judged it already.
    for kind in ("arm", "main") if table.gap != table.study.metric else ():
        family = {
            effect.term: effect.differences
            for effect in effects
            if effect.kind == kind and effect.metric == table.gap and (kind, effect.term) in judged
        }
        judgements = judge(
            family,
            alpha=table.study.alpha,
            margin=table.margin,
            looks=table.study.looks,
            boundary=table.study.boundary,
            has_direction=False,
            # of many arms the best are shown; the correction counts all of them
            family=table.study.family if kind == "arm" else 0,
        )
        tested |= {(kind, term): judgement for term, judgement in judgements.items()}
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
    if not table.control:
        return []
    baseline = table.arms[0].name
    pairs = [
        (table.control[seed], table.runs[baseline][seed])
        for seed in table.seeds
        if seed in table.control
        and table.control[seed].status == "complete" == table.status(baseline, seed)
    ]

    effects = []
    for metric in table.metrics.values():
        scored = [
            (again.scores[metric.name], first.scores[metric.name])
            for again, first in pairs
            if metric.name in again.scores and metric.name in first.scores
        ]
        scores, reference = [a for a, _ in scored], [b for _, b in scored]
        result = paired_t(scores, reference, alpha=table.study.alpha)
        effect = effect_of(
            result,
            kind="control",
            term="A/A",
            reference=baseline,
            metric=metric.name,
            unit=metric.unit,
            differences=differences(scores, reference).tolist(),
        )
        p = number(result.p) if metric.name == table.study.metric else None
        effects.append(effect.model_copy(update={"p": p}))
    return effects


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
    effects = []
    for arm in table.arms:
        among, reason = state.own[arm.name], state.reasons.get(arm.name, "")
        if not arm.reference or any(word in reason for word in _NO_ESTIMATE):
            continue

        rows = []
        for seed in table.pairs(arm.name, arm.reference, table.study.metric, among)[0]:
            both = [
                outcomes.get(table.runs[name][seed].trial.cell)
                for name in (arm.name, arm.reference)
            ]
            right = [item.val_correct_N.astype(np.float64) for item in both if item is not None]
            # both known, and of the images that the labels are of
            if [row_N.size for row_N in right] == [labels_N.size] * 2:
                rows.append(right[0] - right[1])

        alpha = interval_alpha(table.study, len(among))
        for label, index_I in members.items() if rows else ():
            # in percentage points, as accuracy is shown
            shares = [100.0 * float(row_N[index_I].mean()) for row_N in rows]
            result = one_sample_t(shares, alpha=alpha)
            effects.append(
                ClassEffect(
                    arm=arm.name,
                    label=classes[label] if 0 <= label < len(classes) else str(label),
                    n=result.n,
                    estimate=result.mean,
                    low=number(result.low),
                    high=number(result.high),
                )
            )
    return effects
