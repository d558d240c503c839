"""First trials that all fail by one fault: the others would too, so the run is stopped and says why."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import TrialError
from harness.ledger import Ledger
from harness.workers.events import Event, Finished
from harness.workers.script_log import tail

ALIKE = 3  # first trials that fail alike before all is stopped
# what differs between two reports of one fault: seeds, keys of cells, attempts
_NUMBERS = re.compile(r"[0-9a-f]{6,}|\d+")
_LOG_LINES = 20


class FirstFailures:
    """Watches the first trials of a run; ``hint`` says what to do once the cause is repaired.

    Attributes:
        error: why the run has to stop; None while nothing speaks for it.
    """

    def __init__(self, ledger: Ledger, hint: str = "run the same command again") -> None:
        self.error: TrialError | None = None
        self._ledger, self._hint = ledger, f"repair the cause and {hint}"
        # of the first trials, while all have failed; None once one has not
        self._errors: list[str] | None = None if _any_sound(ledger) else []

    def hear(self, event: Event) -> bool:
        """Take note of an event; return whether it is the one that stops the run."""
        if not isinstance(event, Finished) or self._errors is None or self.error is not None:
            return False
        trial = event.trial
        if trial.state != "failed":
            self._errors = None
            return False

        self._errors.append(_NUMBERS.sub("#", trial.error))
        if len(self._errors) < ALIKE or len(set(self._errors)) > 1 or _any_sound(self._ledger):
            return False
        details = event.traceback or _log_of(trial.error)
        self.error = TrialError(
            f"stopped: the first {ALIKE} trials failed in the same way: {trial.error}"
            + (f"\n{details}" if details else ""),
            self._hint,
        )
        return True


def _any_sound(ledger: Ledger) -> bool:
    counts = ledger.counts()
    return counts.complete + counts.pruned + counts.diverged > 0


def _log_of(error: str) -> str:
    """Return the end of the log that a script's error names; empty without one."""
    named = re.search(r"\(log: (.+)\)$", error)
    if named is None:
        return ""
    return "\n".join(tail(Path(named[1]))[-_LOG_LINES:])
