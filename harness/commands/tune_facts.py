"""What a search says of itself: its plan and what it came to. Plain data; no console."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.facts import Outcome, PlanFacts
from harness.study.trial import deciding_images
from harness.text import duration, plural


@dataclass(frozen=True, slots=True)
class TunePlan(PlanFacts):
    """The plan of a search: ``cells`` are its trials and those of its confirmation."""

    seconds_per_trial: float  # of our engine, which is always timed
    seconds: float
    trials: int = 0
    confirm: int = 0
    entries: int = 0
    how: str = ""
    limits: str = ""

    def lines(self) -> list[str]:
        """Return the plan, a fact a line."""
        done = self.cells - self.to_run
        kept = f", {done} of them done already" if done else ""
        where = (
            f"{plural(self.workers, 'process', 'processes')} of {plural(self.threads, 'thread')}"
        )
        again = (
            f"then the {self.confirm} best and the reference"
            if self.confirm > 1
            else "then the best and the reference"
        )
        held = deciding_images(train=self.train_images, val=self.val_images, test=self.test_images)
        images = f"images {self.data}: {self.train_images:,} train, {held}, "
        space = f"{plural(self.trials, 'trial')} over {plural(self.entries, 'entry', 'entries')} of the space"
        lines = [
            f"profile {self.profile}: {self.why_profile}",
            images
            + f"{self.test_images:,} test (looked at for the chosen and the reference, after the choice)",
            f"{space}, the reference first: {self.how}",
        ]
        if self.limits:
            lines.append(f"only recipes within {self.limits}")
        if self.confirm:
            lines.append(
                f"{again} on {plural(self.seeds, 'fresh seed')}: {plural(self.cells, 'trial')} in all{kept}"
            )
        cost = f"about {duration(self.seconds)}: {self.seconds_per_trial:.1f} s for the reference, {self.estimated_from}"
        return [
            *lines,
            f"{where} on {self.device}: {self.why_workers}",
            f"engine {self.engine}",
            f"{cost}; larger nets take longer, stopped trials less",
            f"report: {self.report}",
        ]


@dataclass(frozen=True, slots=True)
class TuneOutcome(Outcome):
    """The result of a search.

    Attributes:
        recipe: file of the winner; None before the confirmation is done.
        improved: whether the winner is shown to be better than the reference; None before.
    """

    recipe: Path | None = None
    improved: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        own = {"recipe": str(self.recipe) if self.recipe else None, "improved": self.improved}
        return {**Outcome.as_json(self), **own}
