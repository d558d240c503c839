"""Following the workers: a line a trial, and a provisional report after each block of seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.ablation.facts import OnEvent, PlanFacts, ProgressFacts
from harness.errors import ReportError
from harness.text import plural
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.ablation.job import Job
    from harness.ledger import Ledger

REPORT_SECONDS = 15  # a provisional report is drawn again no sooner than this


@dataclass(slots=True)
class Shifted:
    """Passes on what a later part of a run tells, counted on from the earlier ones; its plan was part of the first one's."""

    on_event: OnEvent
    before: int
    total: int

    def __call__(self, event: Any) -> None:
        """Take one event of that part."""
        if isinstance(event, ProgressFacts):
            self.on_event(
                ProgressFacts(
                    event.title, self.before + event.done, self.total, self.before + event.before, event.note, event.line
                )
            )
        elif not isinstance(event, PlanFacts):
            self.on_event(event)


class Watch:
    """Follows the workers: tells of each finished trial and draws the provisional report after each block of seeds."""

    def __init__(self, job: Job, ledger: Ledger, on_event: OnEvent) -> None:
        self.job, self.ledger, self.on_event = job, ledger, on_event
        self.title = job.study.folder
        self.trials = {trial.cell: trial for trial in ledger.trials()}
        self.blocks = self._blocks()

    def __call__(self, event: Any) -> None:
        """Take one event of the launcher."""
        from harness.worker import Finished, Note

        if isinstance(event, Finished):
            trial = event.trial
            self.trials[trial.cell] = trial
            self.on_event(self.progress(line=self._line(trial)))
            self._report()
        elif isinstance(event, Note):
            self.on_event(event.text)

    def progress(self, line: str = "") -> ProgressFacts:
        """How far the run is."""
        return ProgressFacts(self.title, len(self.trials), len(self.job.planned), self.job.before, self._means(), line)

    def _line(self, trial: Trial) -> str:
        arm = self.job.arms_of(trial.recipe)
        if trial.state != "complete" and self.job.study.scripted and not trial.epochs:
            return (
                f"{arm} seed {trial.seed}: {trial.state}: {trial.error}"  # of a script's epochs nothing is known before its end
            )
        if trial.state != "complete":
            return f"{arm} seed {trial.seed}: {trial.state} after {plural(trial.epochs, 'epoch')}. {self._why(trial)}".rstrip()
        return f"{arm} seed {trial.seed}: {self._scores(trial.metrics)}, {trial.train_seconds + trial.eval_seconds:.1f} s"

    def _scores(self, metrics: Mapping[str, float]) -> str:
        """What a line says of a trial or of a mean: the metrics that are there of these, and the one that decides."""
        shown = {"accuracy": "val {:.1f} %", "train_accuracy": "train {:.1f} %", "gap": "gap {:.1f} pp"}
        told = [form.format(100 * metrics[name]) for name, form in shown.items() if name in metrics]
        decides = self.job.study.metric
        if decides not in shown and self.job.study.scripted:
            told.insert(0, f"{decides} {metrics[decides]:.4g}")
        return ", ".join(told)

    def _why(self, trial: Trial) -> str:
        if trial.state != "pruned" or trial.error:
            return trial.error
        return "Still guessing, or worse than the median." if self.job.screen else "Still guessing."

    def _means(self) -> str:
        """The baseline's running mean, for the bar."""
        baseline = self.job.arms[0]
        done = [t for t in self.trials.values() if t.recipe == baseline.recipe and t.state == "complete"]
        if not done:
            return ""
        shared = [name for name in done[0].metrics if name != "train_accuracy" and all(name in t.metrics for t in done)]
        means = {name: sum(t.metrics[name] for t in done) / len(done) for name in shared}
        return f"{baseline.name}: {self._scores(means)} (mean, n = {len(done)})"

    def _blocks(self) -> int:
        seeds: dict[int, bool] = {}
        for cell in self.job.planned:
            seeds[cell.seed] = seeds.get(cell.seed, True) and cell.key in self.trials
        return sum(seeds.values())

    def _report(self) -> None:
        blocks = self._blocks()
        last = len(self.trials) == len(self.job.planned)
        due = self.job.reported == 0 or time.monotonic() - self.job.reported > REPORT_SECONDS
        if blocks <= self.blocks or last or not due:
            return
        first = self.job.reported == 0
        try:
            with contextlib.suppress(FileNotFoundError):  # a trial's artifact may be replaced while it is read
                written = self.job.report(self.ledger, provisional=True)
                if first:
                    self.on_event(f"provisional report: {written.index}")
        except ReportError as error:  # a full disk, say: the trials go on, and the last report says so again
            self.on_event(f"no provisional report: {error.message}")
        self.blocks, self.job.reported = blocks, time.monotonic()
