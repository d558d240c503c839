"""Following the workers: a line a trial, and a provisional report after each block of seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.commands.facts import OnEvent, PlanFacts, ProgressFacts
from harness.errors import ReportError
from harness.study.trial import Trial
from harness.text import plural

if TYPE_CHECKING:
    from harness.commands.run import Job
    from harness.ledger import Ledger

REPORT_SECONDS = 15  # a provisional report is drawn again no sooner than this


def counted(on_event: OnEvent, *, before: int = 0, total: int) -> OnEvent:
    """Return what passes events on with the trials of a part of a run counted among those of the whole.

    Args:
        on_event: given them.
        before: trials of the earlier parts; after any, the part's own plan is left out, as the
            first part's covers it.
        total: trials of all parts.
    """

    def take(event: Any) -> None:
        if isinstance(event, ProgressFacts):
            on_event(
                replace(event, done=before + event.done, total=total, before=before + event.before)
            )
        elif not (before and isinstance(event, PlanFacts)):
            on_event(event)

    return take


class Follower:
    """Follows the workers of one part of a run: a line a trial.

    Args:
        title: name of what is run.
        on_event: given ``ProgressFacts`` and lines of text.
        done: trials that are final.
        total: all that are wanted.
        before: trials that were final before this run.
    """

    def __init__(
        self, title: str, on_event: OnEvent, *, done: int, total: int, before: int
    ) -> None:
        self.title, self.on_event, self.done, self.total, self.before = (
            title,
            on_event,
            done,
            total,
            before,
        )

    def __call__(self, event: Any) -> None:
        """Take one event of the launcher."""
        from harness.workers.events import Finished, Note

        if isinstance(event, Finished):
            self.take(event.trial)
            self.on_event(self.progress(self.line(event.trial)))
            self.after()
        elif isinstance(event, Note):
            self.on_event(event.text)

    def take(self, trial: Trial) -> None:  # noqa: ARG002 - for those that keep more of it
        """Count a trial that has ended."""
        self.done += 1

    def progress(self, line: str = "") -> ProgressFacts:
        """Return how far this part is."""
        return ProgressFacts(self.title, self.done, self.total, self.before, self.note(), line)

    def line(self, trial: Trial) -> str:
        """Return a line about a trial that has ended."""
        raise NotImplementedError

    def note(self) -> str:
        """Return what stands beside the bar."""
        return ""

    def after(self) -> None:
        """Do what is done after each trial."""


class Watch(Follower):
    """Follows an ablation: its scores, and the provisional report after each block of seeds."""

    def __init__(self, job: Job, ledger: Ledger, on_event: OnEvent) -> None:
        self.job, self.ledger = job, ledger
        self.trials = {trial.cell: trial for trial in ledger.trials()}
        self.blocks = self._blocks()
        super().__init__(
            job.study.folder,
            on_event,
            done=len(self.trials),
            total=len(job.planned),
            before=job.before,
        )

    def take(self, trial: Trial) -> None:
        """Keep a trial that has ended."""
        self.trials[trial.cell] = trial
        self.done = len(self.trials)

    def line(self, trial: Trial) -> str:
        """Return arm, seed and scores of a trial."""
        arm = self.job.arms_of(trial.recipe)
        if trial.state != "complete" and self.job.study.scripted and not trial.epochs:
            return (
                # of a script's epochs nothing is known before its end
                f"{arm} seed {trial.seed}: {trial.state}: {trial.error}"
            )
        if trial.state != "complete":
            return f"{arm} seed {trial.seed}: {trial.state} after {plural(trial.epochs, 'epoch')}. {self._why(trial)}".rstrip()
        return f"{arm} seed {trial.seed}: {self._scores(trial.metrics)}, {trial.train_seconds + trial.eval_seconds:.1f} s"

    def _scores(self, metrics: Mapping[str, float]) -> str:
        """What a line says of a trial or of a mean: the metrics that are there of these, and the one that decides."""
        shown = {
            "accuracy": "val {:.1f} %",
            "train_accuracy": "train {:.1f} %",
            "gap": "gap {:.1f} pp",
        }
        told = [form.format(100 * metrics[name]) for name, form in shown.items() if name in metrics]
        decides = self.job.study.metric
        if decides not in shown and self.job.study.scripted:
            told.insert(0, f"{decides} {metrics[decides]:.4g}")
        return ", ".join(told)

    def _why(self, trial: Trial) -> str:
        if trial.state != "pruned" or trial.error:
            return trial.error
        return "Still guessing, or worse than the median." if self.job.screen else "Still guessing."

    def note(self) -> str:
        """Return the baseline's running mean."""
        baseline = self.job.arms[0]
        done = [
            t for t in self.trials.values() if t.recipe == baseline.recipe and t.state == "complete"
        ]
        if not done:
            return ""
        shared = [
            name
            for name in done[0].metrics
            if name != "train_accuracy" and all(name in t.metrics for t in done)
        ]
        means = {name: sum(t.metrics[name] for t in done) / len(done) for name in shared}
        return f"{baseline.name}: {self._scores(means)} (mean, n = {len(done)})"

    def _blocks(self) -> int:
        seeds: dict[int, bool] = {}
        for cell in self.job.planned:
            seeds[cell.seed] = seeds.get(cell.seed, True) and cell.key in self.trials
        return sum(seeds.values())

    def after(self) -> None:
        """Draw the provisional report after a block of seeds."""
        blocks = self._blocks()
        last = len(self.trials) == len(self.job.planned)
        due = self.job.reported == 0 or time.monotonic() - self.job.reported > REPORT_SECONDS
        if blocks <= self.blocks or last or not due:
            return
        first = self.job.reported == 0
        try:
            # a trial's artifact may be replaced while it is read
            with contextlib.suppress(FileNotFoundError):
                written = self.job.report(self.ledger, provisional=True)
                if first:
                    self.on_event(f"provisional report: {written.index}")
        except (
            ReportError
        ) as error:  # a full disk, say: the trials go on, and the last report says so again
            self.on_event(f"no provisional report: {error.message}")
        self.blocks, self.job.reported = blocks, time.monotonic()
