"""A study that retunes its arms: as it is first, then the settings of every arm, then every arm at its best one.

Three ledgers, one after the other, each resumed where it stopped: the study's own,
``<study>-retuning`` for the settings and ``<study>-retuned``, an ordinary ablation. The study's
report shows both verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.commands.facts import Extra, OnEvent, Outcome, ProgressFacts
from harness.commands.follow import Follower, counted
from harness.commands.place import RUNS
from harness.commands.run import Job
from harness.errors import StorageError, StudyError
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.recipe import Recipe
from harness.study.retune_settings import (
    Tried,
    check_metric,
    choose,
    retuned_study,
    retuning_cells,
    retuning_study,
    settings,
)
from harness.study.study import Study
from harness.study.trial import Cell, Trial
from harness.text import duration, plural


@dataclass(slots=True)
class RetunedJob:
    """A study with its retuning, on its way from plan to report.

    Attributes:
        job: of the study as it is.
        cells: every arm at every setting.
    """

    job: Job
    cells: tuple[Cell, ...]

    @classmethod
    def prepare(cls, job: Job) -> RetunedJob:
        """Check every arm at every setting against the images, and tell the plan what retuning will cost.

        Raises:
            StudyError: an arm cannot have a setting, or nothing tells which setting is the best.
            RecipeError: a net does not fit the images.
        """
        from harness.train.check import check

        study = job.study
        check_metric(study)
        if not job.image_counts()["val"]:
            raise StudyError(
                f"study {study.name!r}: retune: settings are chosen on validation images and data.val leaves none",
                "set data.val, or take `retune` out of the study",
            )
        wanted = retuning_cells(study, job.fingerprint, job.code)
        for recipe in dict.fromkeys(cell.recipe for cell in wanted):
            check(recipe)
        job.extra = _extra(job, len(wanted))
        return cls(job, wanted)

    def already_done(self) -> int:
        """Return how many of the trials that retuning adds are final, touching nothing."""
        from harness.search import SearchLedger

        job, keys = self.job, {cell.key for cell in self.cells}
        folder = retuning_study(job.study).folder
        try:
            with SearchLedger.open(folder, storage=job.storage, runs=RUNS, create=False) as ledger:
                tried = [trial for trial in ledger.trials() if trial.cell in keys]
        except StorageError:
            return 0
        if len(tried) < len(keys):  # which settings are run again is not known yet
            return len(tried)
        return len(tried) + len(
            self._retuned(retuned_study(job.study, choose(job.study, tried))).already_done()
        )

    def run(self, deadline: float | None, on_event: OnEvent) -> Outcome:
        """Run the study as it is, try the settings, run the retuned study, and report both."""
        later = len(self.cells) + len(self.job.cells)
        first = self.job.run(deadline, counted(on_event, total=len(self.job.cells) + later))
        if first.interrupted or first.out_of_time:
            return first
        before = sum(first.counts[state] for state in ("complete", "failed", "pruned", "diverged"))
        searched = self._search(deadline, counted(on_event, before=before, total=before + later))
        if searched.left:
            return self._outcome(first, searched, None, on_event)
        told = "; ".join(
            f"{one.arm}: {_plain(one.setting) or 'as it is'}" for one in searched.chosen
        )
        on_event(f"chosen on validation: {told}")
        job = self._retuned(retuned_study(self.job.study, searched.chosen))
        before += len(self.cells)
        second = job.run(deadline, counted(on_event, before=before, total=before + len(job.cells)))
        on_event(
            ProgressFacts(
                self.job.study.folder, before + len(job.cells), before + len(job.cells), before
            )
        )
        return self._outcome(first, searched, second, on_event)

    def _search(self, deadline: float | None, on_event: OnEvent) -> _Searched:
        """Try every arm at every setting."""
        from harness.search import SearchLedger

        job, study = self.job, retuning_study(self.job.study)
        with SearchLedger.open(
            study.folder, storage=job.storage, artifacts=job.artifacts, runs=RUNS
        ) as ledger:
            planned = ledger.plan(job.plan(study), self.cells, retry_failed=job.retry_failed)
            result = job.drain(
                study, planned.new, deadline, _Watch(self, ledger.counts().final, on_event)
            )
            if result is not None and result.error is not None:
                raise result.error
            counts, trials = ledger.counts(), ledger.trials()
        return _Searched(
            counts={name: getattr(counts, name) for name in counts.__slots__},
            chosen=choose(job.study, trials),
            failures=[
                f"retuning {self.named(one.recipe)}: {one.error}"
                for one in trials
                if one.state == "failed"
            ],
            interrupted=bool(result and result.interrupted),
        )

    def named(self, recipe: Recipe) -> str:
        """Return in words which arm has which setting."""
        tried = settings(self.job.study)
        places = {
            arm.recipe.with_overrides(one): (arm.name, place)
            for arm in self.job.arms
            for place, one in enumerate(tried)
        }
        name, place = places[recipe]
        return f"{name}, setting {place + 1} of {len(tried)}{'' if place else ' (as it is)'}"

    def _retuned(self, study: Study) -> Job:
        """Return the job of the retuned study: an ordinary one, with the threads and workers of the first."""
        job = self.job
        return replace(
            job,
            study=study,
            arms=arms(study),
            cells=cells(study, job.fingerprint, job.code),
            codes={},
            planned=(),
            before=0,
            reported=0.0,
            source="",
            extra=None,
        )

    def _outcome(
        self, first: Outcome, searched: _Searched, second: Outcome | None, on_event: OnEvent
    ) -> Outcome:
        """Write the study's report again, with both verdicts, and return what all of it came to."""
        from harness.commands.report import trials_kept
        from harness.ledger import Ledger
        from harness.report.retuned import sentence

        on_event("writing the report with both verdicts")
        name, storage = self.job.study.folder, self.job.storage
        with (
            Ledger.open(name, storage=storage, runs=RUNS, create=False) as ledger,
            trials_kept(name, storage=storage),
        ):
            written = self.job.report(ledger)
        parts = [first.counts, searched.counts, *([second.counts] if second else [])]
        counts = {name: sum(part[name] for part in parts) for name in first.counts}
        left = bool(counts["waiting"] + counts["running"])
        interrupted = searched.interrupted or bool(second and second.interrupted)
        again = [f"retuned {one}" for one in second.failures] if second else []
        return replace(
            first,
            answer="\n".join(filter(None, (first.answer, sentence(written.analysis)))),
            report=written.index,
            counts=counts,
            interrupted=left and interrupted,
            out_of_time=left and not interrupted,
            failures=[*first.failures, *searched.failures, *again],
        )


@dataclass(frozen=True, slots=True)
class _Searched:
    """What trying the settings came to."""

    counts: Mapping[str, int]
    chosen: Sequence[Tried]
    failures: Sequence[str]
    interrupted: bool

    @property
    def left(self) -> int:
        """Trials that are not final."""
        return self.counts["waiting"] + self.counts["running"]


class _Watch(Follower):
    """Follows the workers while settings are tried."""

    def __init__(self, retuned: RetunedJob, done: int, on_event: OnEvent) -> None:
        title = retuning_study(retuned.job.study).folder
        super().__init__(title, on_event, done=done, total=len(retuned.cells), before=done)
        self._retuned = retuned

    def note(self) -> str:
        """Return what is being done."""
        return "retuning"

    def line(self, trial: Trial) -> str:
        """Return the arm, its setting and the score of a trial."""
        name = self._retuned.named(trial.recipe)
        if trial.state != "complete":
            return f"{name}: {trial.state} after {plural(trial.epochs, 'epoch')}. {trial.error}".rstrip()
        return f"{name}: val {100 * trial.metrics['accuracy']:.1f} %, {trial.train_seconds:.1f} s"


def _extra(job: Job, tried: int) -> Extra:
    study, again = job.study, len(job.cells)
    # of our engine, which is timed: a script has no space to retune over
    seconds = job.seconds_of(tried + again) or 0.0
    each = tried // len(job.arms)
    words = (
        f"retuned over {', '.join(study.retune)}: {plural(len(job.arms), 'arm')} x {plural(each, 'setting')} = "
        f"{plural(tried, 'trial')}, then at most {plural(again, 'trial')} at the best ones: about {duration(seconds)} more"
    )
    return Extra(words, tried + again, seconds)


def _plain(setting: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in setting.items()
    )
