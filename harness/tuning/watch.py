"""Following a search: a line a trial, the best score so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.ablation import OnEvent, ProgressFacts
from harness.study import Study
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.search import SearchLedger


class Watch:
    """Follows the workers of a search: a line a trial, and the best score so far."""

    def __init__(self, study: Study, ledger: SearchLedger, on_event: OnEvent, *, total: int, before: int) -> None:
        from harness.search import tried

        self._study, self._on_event, self._total, self._before = study, on_event, total, before
        self._done = before
        self._scores = {one.slot: one.value for one in tried(ledger) if one.value is not None and not one.broken}

    def __call__(self, event: Any) -> None:
        """Take one event of the launcher."""
        from harness.worker import Finished, Note

        if isinstance(event, Finished):
            self._done += 1
            self._on_event(self.progress(self._line(event.trial)))
        elif isinstance(event, Note):
            self._on_event(event.text)

    def progress(self, line: str = "") -> ProgressFacts:
        """How far the search is."""
        best = max(self._scores.items(), key=lambda item: (item[1], -item[0]), default=None)
        note = f"best search score {100 * best[1]:.1f} %, trial {best[0]}" if best else ""
        return ProgressFacts(self._study.folder, self._done, self._total, self._before, note, line)

    def _line(self, trial: Trial) -> str:
        from harness.search.ledger import slot_of
        from harness.search.limits import excess

        slot = slot_of(trial.cell)
        name = f"trial {slot}{' (reference)' if slot == 0 else ''}"
        if trial.state != "complete":
            told = f": {trial.error}" if trial.error else ""
            return f"{name}: {trial.state} at epoch {trial.epochs} of {trial.recipe.train.epochs}{told}"
        m = trial.metrics
        broken = [limit for limit, value in excess(self._study.search, trial).items() if value > 0]
        if not broken:
            self._scores[slot] = m["accuracy"]
        beyond = f", beyond the limit on {', '.join(broken)}" if broken else ""
        scores = f"val {100 * m['accuracy']:.1f} %, gap {100 * m.get('gap', 0.0):.1f} pp"
        return f"{name}: {scores}, {trial.train_seconds:.1f} s{beyond}"
