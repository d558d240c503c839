"""Arms whose runs share no seeds: differences of two groups by Welch's t, with the same verdicts as paired ones.

Runs are the rows of a table without seeds, or with seeds that no two arms share; or there are no
runs at all, only the mean, sd and number that somebody wrote down. Nothing is paired, so nothing of
what seeds have in common cancels: the interval is as wide as both groups make it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

from harness.analysis.model import Check, Effect
from harness.analysis.table import Run, Table
from harness.analysis.verdicts import Judgement, judge_tested, number
from harness.stats import RunGroup, group_of, welch_t, welch_tost

RUNS, SD = "runs", "sd"  # readings of a trial that stands for a whole arm


def runs_of_arm(table: Table, arm: str, metric: str) -> RunGroup:
    """Return number, mean and sd of an arm's finished runs on a metric."""
    runs = [run for run in table.of(arm, "complete") if metric in run.scores]
    if table.study.pairing != "summary":
        return group_of([run.scores[metric] for run in runs])
    return _stated(runs[0], metric, table) if runs else RunGroup(0, nan, nan)


def _stated(run: Run, metric: str, table: Table) -> RunGroup:
    """What a row of means says of its arm; the sd is of the deciding metric alone."""
    count = round(run.trial.readings.get(RUNS, 0.0))
    sd = run.trial.readings.get(SD, nan) * table.metrics[metric].scale
    return RunGroup(count, run.scores[metric], sd if metric == table.study.metric else nan)


def judge_groups(table: Table, reasons: Mapping[str, str]) -> dict[str, Judgement]:
    """Judge the arms that can be against the baseline, as one family, on the primary metric."""
    baseline = runs_of_arm(table, table.arms[0].name, table.study.metric)
    tested = {}
    for arm in table.arms:
        if arm.reference and arm.name not in reasons:
            group = runs_of_arm(table, arm.name, table.study.metric)
            difference = welch_t(group, baseline)
            p_equivalence = welch_tost(difference, table.margin)
            tested[arm.name] = (difference.n, difference.mean, difference.p, p_equivalence)
    return judge_tested(
        tested,
        alpha=table.study.alpha,
        sign=table.sign,
        has_direction=table.primary.higher_is_better is not None,
        family=table.study.family,
        unit="run",
    )


def group_effects(
    table: Table, judgements: Mapping[str, Judgement], reasons: Mapping[str, str]
) -> list[Effect]:
    """Return the difference of every arm to the baseline on every metric; verdicts on the primary one alone."""
    effects = []
    for arm in table.arms:
        if not arm.reference:
            continue
        for metric in table.metrics.values():
            baseline = runs_of_arm(table, arm.reference, metric.name)
            result = welch_t(
                runs_of_arm(table, arm.name, metric.name), baseline, alpha=table.study.alpha
            )
            primary = metric.name == table.study.metric
            judgement = judgements.get(arm.name) if primary else None
            reason = reasons.get(arm.name, "") if primary else ""
            effects.append(
                Effect(
                    kind="arm",
                    term=arm.name,
                    reference=arm.reference,
                    metric=metric.name,
                    unit=metric.unit,
                    n=result.n,
                    estimate=number(result.mean),
                    low=number(result.low),
                    high=number(result.high),
                    sd=number(result.sd),
                    p=judgement.p if judgement else None,
                    p_holm=judgement.p_holm if judgement else None,
                    p_equivalence=judgement.p_equivalence if judgement else None,
                    verdict=judgement.verdict if judgement else "",
                    note="; ".join(filter(None, (*(judgement.notes if judgement else ()), reason))),
                )
            )
    return effects


def unpaired_reasons(table: Table) -> dict[str, str]:
    """Return ``{arm: why it gets no verdict}``, the baseline included: runs that diverged."""
    lost = {
        arm.name: (table.count(arm.name, "failed", "diverged"), len(table.of(arm.name)))
        for arm in table.arms
    }
    own = {name: f"unstable ({k} of {n})" for name, (k, n) in lost.items() if k}
    base = table.arms[0].name
    if base in own:
        own |= {
            a.name: f"its reference is {own[base]}" for a in table.arms[1:] if a.name not in own
        }
    return own


def unpaired_check(table: Table) -> Check:
    """Say that nothing was paired, and what pairing would have saved."""
    what = "runs were not paired by seed: arms are compared as two groups (Welch)"
    if table.study.pairing == "summary":
        what = "there are means and sds, no runs: arms are compared as two groups (Welch)"
    saved = "with shared seeds whose scores correlate at 0.5, half as many runs give this precision"
    hint = "run every arm with the same seeds, and keep a row for each run"
    return Check(level="warn", name="pairing", what=f"{what}; {saved}", hint=hint)


def fewest_runs(table: Table, names: Sequence[str]) -> int:
    """Return how many runs the arm with the fewest of them has."""
    return min((runs_of_arm(table, name, table.study.metric).n for name in names), default=0)
