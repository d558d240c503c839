"""How fast trials are finished, from when they started and how long they took; the clocks of the workers are believed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from harness.study.trial import Trial

# trials: more would remember workers that have left, fewer would jump with every long one
LATELY = 20


def pace_of(trials: Sequence[Trial]) -> float | None:
    """Return trials an hour over the last ones that were finished; None while nothing can be said.

    Args:
        trials: final ones, in any order; those adopted from elsewhere or without times are left
            out.
    """
    spans = sorted(
        (span for trial in trials if (span := _span(trial)) is not None), key=lambda span: span[1]
    )[-LATELY:]
    if not spans:
        return None
    hours = (spans[-1][1] - min(start for start, _ in spans)).total_seconds() / 3600
    return len(spans) / hours if hours > 0 else None


def _span(trial: Trial) -> tuple[datetime, datetime] | None:
    """Return when a trial started and ended; None where that is not known or says nothing of this run."""
    seconds = trial.train_seconds + trial.eval_seconds + trial.readings.get("start_seconds", 0.0)
    if trial.adopted or not trial.started or seconds <= 0:
        return None
    started = datetime.fromisoformat(trial.started)
    if started.tzinfo is None:
        return None
    return started, started + timedelta(seconds=seconds)
