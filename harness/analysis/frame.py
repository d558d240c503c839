"""The effects of an analysis as a table, for effects.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.analysis.model import Analysis, ArmFacts

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "kind",
    "term",
    "reference",
    "metric",
    "unit",
    "n",
    "mean",
    "sd",
    "estimate",
    "low",
    "high",
    "p",
    "p_holm",
    "p_equivalence",
    "verdict",
    "seed_correlation",
    "failed",
    "pruned",
    "params_m",
    "mflop_per_image",
    "train_seconds",
)
_KINDS = ("arm", "main", "interaction", "shapley", "dataset")


def effects_frame(analysis: Analysis) -> pd.DataFrame:
    """Return one row for each arm or term on each metric, the baseline's without an estimate; sorted by kind, term and metric.

    ``mean`` and ``sd`` are of the arm's own level, empty for terms of a design; ``estimate``,
    ``low`` and ``high`` of the difference to the reference; ``failed`` counts diverged trials too.
    What is not known is None.
    """
    import pandas as pd

    facts = {arm.name: arm for arm in analysis.arms}
    levels = {(summary.arm, summary.metric): summary for summary in analysis.summaries}
    rows: list[dict[str, Any]] = []
    for effect in analysis.effects:
        if effect.kind not in _KINDS:
            continue
        row = {name: getattr(effect, name) for name in COLUMNS if name in type(effect).model_fields}
        level = levels.get((effect.term, effect.metric)) if effect.kind == "arm" else None
        row |= {"mean": level.mean if level else None, "sd": level.sd if level else None}
        rows.append(row | (_about(facts[effect.term]) if effect.kind == "arm" else {}))
    for summary in analysis.summaries:
        if not facts[summary.arm].reference:
            row = {"kind": "arm", "term": summary.arm, "reference": "", "verdict": ""}
            row |= {name: getattr(summary, name) for name in ("metric", "unit", "n", "mean", "sd")}
            rows.append(row | _about(facts[summary.arm]))
    rows.sort(
        key=lambda row: (_KINDS.index(row["kind"]), row["term"], row["reference"], row["metric"])
    )
    return pd.DataFrame(
        [[row.get(name) for name in COLUMNS] for row in rows], columns=list(COLUMNS), dtype=object
    )


def _about(arm: ArmFacts) -> dict[str, Any]:
    return {
        "failed": arm.failed + arm.diverged,
        "pruned": arm.pruned,
        "params_m": arm.params_m,
        "mflop_per_image": arm.mflop_per_image,
        "train_seconds": arm.train_seconds,
    }
