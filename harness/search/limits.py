"""What a recipe may cost, as constraints in Optuna's sense: a value above 0 breaks its limit."""

from __future__ import annotations

from harness.study.space import Search
from harness.study.trial import Trial


def excess(rules: Search, trial: Trial) -> dict[str, float]:
    """Return ``{limit: how far above it, as a share of it}`` for every limit that is set and can be judged.

    Of a trial that was stopped, the seconds are those that the whole run would have taken, and the
    gap is unknown.
    """
    epochs = trial.recipe.train.epochs
    seconds = trial.train_seconds * epochs / trial.epochs if trial.epochs else None
    gap = trial.metrics.get("gap")
    found = {
        "seconds": (rules.max_seconds, seconds),
        "params_m": (rules.max_params_m, trial.params / 1e6 if trial.params else None),
        "memory_mib": (rules.max_memory_mib, trial.peak_mib or None),
        "gap_pp": (rules.max_gap_pp, None if gap is None else 100 * gap),
    }
    return {
        name: value / limit - 1
        for name, (limit, value) in found.items()
        if limit is not None and value is not None
    }


def words(rules: Search) -> str:
    """Return the limits in words; empty without any."""
    named = {
        "max_seconds": "{:g} s of training",
        "max_params_m": "{:g} M parameters",
        "max_memory_mib": "{:g} MiB",
        "max_gap_pp": "a gap of {:g} pp",
    }
    return ", ".join(
        text.format(getattr(rules, name))
        for name, text in named.items()
        if getattr(rules, name) is not None
    )
