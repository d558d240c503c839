"""Following the workers: a line a trial, and a provisional report after each block of seeds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.commands.facts import OnEvent, PlanFacts, ProgressFacts
from harness.commands.place import RUNS
from harness.errors import HarnessError
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

    def close(self) -> None:
        """Wait for what is still done when the workers have left."""


class Watch(Follower):
    """Follows an ablation: its scores, and the provisional report after each block of seeds."""

    def __init__(self, job: Job, ledger: Ledger, on_event: OnEvent) -> None:
        self.job = job
        self._drawing: threading.Thread | None = None
        self._drawn: list[str] = []
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
        """Return the running means: a line an arm that has any, its scores and n."""
        done: dict[str, list[Trial]] = {}
        for trial in self.trials.values():
            if trial.state == "complete":
                done.setdefault(trial.recipe.id, []).append(trial)
        width = max(len(arm.name) for arm in self.job.arms)
        return "\n".join(
            f"{arm.name:{width}}  {self._mean(done[arm.recipe.id])}"
            for arm in self.job.arms
            if arm.recipe.id in done
        )

    def _mean(self, trials: Sequence[Trial]) -> str:
        shared = [
            name
            for name in trials[0].metrics
            if name != "train_accuracy" and all(name in trial.metrics for trial in trials)
        ]
        means = {
            name: sum(trial.metrics[name] for trial in trials) / len(trials) for name in shared
        }
        return f"{self._scores(means)}, n = {len(trials)}"

    def _blocks(self) -> int:
        seeds: dict[int, bool] = {}
        for cell in self.job.planned:
            seeds[cell.seed] = seeds.get(cell.seed, True) and cell.key in self.trials
        return sum(seeds.values())

    def after(self) -> None:
        """Begin the provisional report after a block of seeds; the bar and the trials go on meanwhile."""
        self._say_drawn()
        blocks = self._blocks()
        last = len(self.trials) == len(self.job.planned)
        due = self.job.reported == 0 or time.monotonic() - self.job.reported > REPORT_SECONDS
        if blocks <= self.blocks or last or not due or self._drawing is not None:
            return
        self.blocks = blocks
        self._drawing = threading.Thread(target=self._draw, name="harness-report", daemon=True)
        self._drawing.start()

    def close(self) -> None:
        """Wait for a report that is being drawn: the last one goes to the same folder."""
        if self._drawing is not None:
            self._drawing.join()
        self._drawing = None
        self._drawn.clear()

    def _draw(self) -> None:
        """Draw the provisional report, with a ledger of this thread's own."""
        from harness.ledger import Ledger

        first = self.job.reported == 0
        try:
            # a trial's artifact may be replaced while it is read
            with (
                contextlib.suppress(FileNotFoundError),
                Ledger.open(
                    self.job.study.folder,
                    storage=self.job.storage,
                    artifacts=self.job.artifacts,
                    runs=RUNS,
                    create=False,
                ) as ledger,
            ):
                written = self.job.report(ledger, provisional=True)
                if first:
                    self._drawn.append(f"provisional report: {written.index}")
        except HarnessError as error:
            # a full disk, say: the trials go on, and the last report says so again
            self._drawn.append(f"no provisional report: {error.message}")
        self.job.reported = time.monotonic()

    def _say_drawn(self) -> None:
        """Say what became of the report that was being drawn, from the thread that follows the run."""
        if self._drawing is not None and not self._drawing.is_alive():
            self._drawing = None
        while self._drawn:
            self.on_event(self._drawn.pop(0))
