"""The analysis of a study, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.advice import detectable, judged_family, needed, recommend
from harness.analysis.checks import all_checks
from harness.analysis.datasets import dataset_effects
from harness.analysis.effects import (
    arm_effects,
    class_effects,
    control_effects,
    gap_tests,
    summaries,
)
from harness.analysis.looks import LookState, progress
from harness.analysis.model import Analysis, ArmFacts, ClassEffect, Effect, Verdict
from harness.analysis.standing import (
    AT_CHANCE,
    Chance,
    at_chance,
    chance_accuracy,
    chance_line,
    own_reason,
)
from harness.analysis.table import Table, join
from harness.analysis.terms import aliases, orders, term_effects
from harness.analysis.verdicts import gap_direction, interval_alpha, word
from harness.stats import onset_epoch
from harness.study.arms import Arm
from harness.study.study import Study
from harness.study.trial import Curve, Environment, Metric, Outcomes, Trial

_NO_VERDICT: Verdict = ""


def analyze(
    study: Study,
    trials: Sequence[Trial],
    *,
    curves: Mapping[str, Curve] | None = None,
    outcomes: Mapping[str, Outcomes] | None = None,
    labels: npt.ArrayLike | None = None,
    classes: tuple[str, ...] = (),
    data_fingerprint: str = "",
    metrics: Mapping[str, Metric] | None = None,
    seeds: Sequence[int] | None = None,
    screening: bool = False,
    changed: Sequence[str] = (),
) -> Analysis:
    """Analyse a study: effects with intervals, verdicts, checks, and what follows from them.

    Args:
        study: under its profile.
        trials: the final record of each cell, in any order; trials of other recipes or seeds are
            ignored.
        curves: epoch histories by cell key; default: each trial's own.
        outcomes: per-image results by cell key: they give effects within classes and intervals for
            new images.
        labels: class of every validation image, shape (N,), in the order of the outcomes.
        classes: names of the classes.
        data_fingerprint: of the images that count; empty takes the most frequent among the trials.
        metrics: metrics beyond the built-in ones, by name, with unit and direction.
        seeds: the planned seeds, where they are not 0, 1, 2, ...
        screening: arms could be stopped by epoch; nothing is judged.
        changed: what of the plan changed after the first trial was claimed; makes verdicts
            exploratory.

    Raises:
        StudyError: the study's arms are faulty.
    """
    outcomes = outcomes or {}
    table = join(
        study,
        trials,
        curves=curves or {},
        metrics=metrics or {},
        data_fingerprint=data_fingerprint,
        planned_seeds=seeds,
    )
    labels_N = None if labels is None else np.asarray(labels)
    known_N = np.zeros(0, dtype=np.int64) if labels_N is None else labels_N
    counts_K = np.unique(known_N, return_counts=True)[1]
    many = max(len(classes), counts_K.size)

    line = chance_line(table, many, counts_K.tolist())
    state = progress(table, line)
    effects = _effects(
        table,
        state,
        outcomes=outcomes,
        exploratory=["exploratory: the plan changed"] if changed else [],
        chance=chance_accuracy(table, many),
        screening=screening,
    )
    return _analysis(
        table,
        state,
        effects,
        line=line,
        classes=_classes(table, state, outcomes, labels_N, classes),
        images=int(counts_K.sum()),
        screening=screening,
        changed=changed,
    )


def _analysis(
    table: Table,
    state: LookState,
    effects: list[Effect],
    *,
    line: Chance | None,
    classes: Sequence[ClassEffect],
    images: int,
    screening: bool,
    changed: Sequence[str],
) -> Analysis:
    """Put together what is known once every effect is."""
    study = table.study
    judged = [e for e in effects if e.metric == study.metric and e.kind in ("arm", "main")]
    advice = recommend(table, state, effects)
    checks = all_checks(
        table,
        state,
        effects=effects,
        line=line,
        images=images,
        changed=changed,
        screening=screening,
    )

    # a trial of a table of other people's runs has the environment of all others
    environments = {id(trial.environment): trial.environment for trial in table.trials}
    places = {_environment(environment) for environment in environments.values()} - {""}
    controlled = all(seed in table.control for seed in table.seeds[: state.due])
    return Analysis(
        study=study,
        seeds=state.blocks,
        seeds_planned=len(table.seeds),
        finished=not state.arms_in and (not study.control or controlled),
        screening=screening,
        arms=tuple(_facts(table, state, arm, effects, line) for arm in table.arms),
        summaries=tuple(summaries(table, state)),
        effects=tuple(effects),
        classes=tuple(classes),
        checks=tuple(checks),
        primary=study.metric,
        higher_is_better=table.primary.higher_is_better,
        gap=table.gap,
        margin=table.margin,
        level=1.0 - interval_alpha(study, len(state.blocks)),
        orders=tuple(orders(table, state)),
        aliases=aliases(table),
        looks_reached=state.reached,
        arms_in=tuple(sorted(state.arms_in)),
        images=images,
        data_fingerprint=table.fingerprint,
        environments=tuple(sorted(places)),
        detectable_pp=detectable(table, judged_family(table, judged)),
        seeds_needed=needed(table, judged),
        recommended=advice.changes,
        reasons=advice.reasons,
        kept=advice.kept,
        recommended_arm=advice.arm,
        trials_total=len(table.trials),
        train_seconds_total=fsum(trial.train_seconds for trial in table.trials),
    )


def _effects(
    table: Table,
    state: LookState,
    *,
    outcomes: Mapping[str, Outcomes],
    exploratory: list[str],
    chance: float | None,
    screening: bool,
) -> list[Effect]:
    """Every effect, with p-values and verdict where the study has a right to them."""
    effects = arm_effects(table, state, outcomes=outcomes, exploratory=exploratory, chance=chance)
    effects += [*term_effects(table, state, exploratory=exploratory), *control_effects(table)]
    effects += dataset_effects(table, state)
    effects = gap_tests(effects, table) if table.study.pairing == "seed" else effects
    return [_withheld(effect, table, state, screening) for effect in effects]


def _withheld(effect: Effect, table: Table, state: LookState, screening: bool) -> Effect:  # noqa: FBT001 - one call, above
    """Take p-values and verdict from an effect between looks, in a screening, and where the test set drew the curves."""
    # An arm that stopped at a look has its verdict; the A/A arm takes no part in looks.
    between = state.withheld and effect.term not in state.stopped and effect.kind != "control"
    barred = table.study.without_validation
    if not (screening or between or barred):
        return effect
    if effect.metric == table.gap != table.study.metric:
        return effect.model_copy(update={"p": None, "p_holm": None})
    if effect.metric != table.study.metric:
        return effect
    why = "screening" if screening else "no validation images" if barred else ""
    note = "; ".join(part for part in (effect.note, why) if part)
    return effect.model_copy(
        update={
            "p": None,
            "p_holm": None,
            "p_equivalence": None,
            "verdict": _NO_VERDICT,
            "note": note,
        }
    )


def _facts(
    table: Table, state: LookState, arm: Arm, effects: Sequence[Effect], line: Chance | None
) -> ArmFacts:
    runs = table.of(arm.name)
    done = [run for run in runs if run.status == "complete"]
    pruned = [run.trial.epochs for run in runs if run.status == "pruned"]
    onsets = [onset_epoch(run.curve.val_loss) for run in done if run.curve.val_loss]
    # counted from 1, as people count epochs
    shown = [epoch + 1 for epoch in onsets if epoch is not None]
    analysed = [
        seed for seed in state.shown[arm.name] if table.status(arm.name, seed) == "complete"
    ]
    speeds = {seed: table.runs[arm.name][seed].trial.images_per_second for seed in analysed}
    return ArmFacts(
        name=arm.name,
        recipe_id=arm.recipe_id,
        reference=arm.reference,
        overrides=dict(arm.overrides),
        components=dict(arm.components),
        why=arm.why,
        planned=_planned(table, state, arm.name),
        completed=len(done),
        failed=sum(run.status == "failed" for run in runs),
        pruned=len(pruned),
        diverged=sum(run.status == "diverged" for run in runs),
        params_m=_mean([run.trial.params / 1e6 for run in runs if run.trial.params]),
        mflop_per_image=_mean(
            [run.trial.mflop_per_image for run in runs if run.trial.mflop_per_image]
        ),
        train_seconds=_mean([run.trial.train_seconds for run in done if run.trial.train_seconds]),
        images_per_second=_mean(
            [run.trial.images_per_second for run in done if run.trial.images_per_second]
        ),
        throughput={seed: speed for seed, speed in speeds.items() if speed},
        word=_word(table, arm.name, effects),
        censored_at=min(pruned, default=None),
        onset_epoch=float(median(shown)) if shown else None,
        onset_none=len(onsets) - len(shown),
        trouble=_trouble(table, state, arm.name, line),
    )


def _trouble(table: Table, state: LookState, arm: str, line: Chance | None) -> str:
    """Why an arm's own runs give no verdict, whatever it is compared with."""
    among = state.shown[arm]
    return own_reason(table, arm, among, state.missing) or (
        AT_CHANCE if at_chance(table, arm, line, among) else ""
    )


def _planned(table: Table, state: LookState, arm: str) -> int:
    """How many seeds the plan now has for an arm: with looks, those up to the last look that it is in for."""
    if not table.study.looks:
        return len(table.seeds)
    return state.due if arm in state.arms_in or not state.reached else len(state.shown[arm])


def _word(table: Table, arm: str, effects: Sequence[Effect]) -> str:
    """The word over accuracy and gap together; none without a verdict."""
    mine = {
        effect.metric: effect for effect in effects if effect.kind == "arm" and effect.term == arm
    }
    primary, gap = mine.get(table.study.metric), mine.get(table.gap)
    if primary is None or gap is None or primary is gap:
        return ""
    return word(primary.verdict, gap_direction(gap.estimate, gap.p_holm, table.study.alpha))


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


def _environment(environment: Environment) -> str:
    """The parts of an environment that move numbers or speed, in one line."""
    threads = (
        f"{environment.threads} threads"
        if environment.threads > 1
        else "1 thread"
        if environment.threads
        else ""
    )
    torch = f"torch {environment.torch}" if environment.torch else ""
    device = environment.device if environment.device != environment.cpu else ""
    parts = (device, environment.cpu, threads, environment.precision, environment.engine, torch)
    return ", ".join(part for part in parts if part)


def _classes(
    table: Table,
    state: LookState,
    outcomes: Mapping[str, Outcomes],
    labels_N: Any,
    classes: Sequence[str],
) -> list[Any]:
    if labels_N is None or not outcomes:
        return []
    return list(class_effects(table, state, outcomes=outcomes, labels_N=labels_N, classes=classes))
