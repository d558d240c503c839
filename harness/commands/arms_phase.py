"""A phase of arms over seeds: one study under one profile, from plan to report.

What ``ablate`` runs, what confirms a search, and what runs retuned arms again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from harness.commands.choose_profile import command, next_size
from harness.commands.facts import Extra, OnEvent, Outcome, PlanFacts
from harness.commands.place import RUNS, Place, Places, choose_places
from harness.commands.run import REPORTS, Ended, Phase, summed
from harness.errors import HarnessError, StorageError, TrialError
from harness.study.arms import Arm, arms
from harness.study.cells import CONTROL_OFFSET, cells
from harness.study.fingerprints import cell_code, study_code
from harness.study.metrics import metric_of, own_metrics
from harness.study.plugin_fields import carried
from harness.study.recipe import Recipe
from harness.study.script_code import check_script, script_code
from harness.study.study import Study
from harness.study.trial import Cell, Metric, Trial, complete
from harness.text import plural

if TYPE_CHECKING:
    from harness.ledger import Offer, Planned
    from harness.report import Provenance, Written
    from harness.search import SearchLedger
    from harness.train.parts import Arena
    from harness.train.timing import Layout
    from harness.workers.join import LaunchResult

REPORT_SECONDS = 15  # a provisional report is drawn again no sooner than this


def same_scores(planned: Sequence[Arm], trials: Sequence[Trial], metric: Metric) -> tuple[str, ...]:
    """Return one sentence on the arms whose score is the same to the last digit at every seed.

    None without such an arm.
    """
    alike: dict[str, list[str]] = {}
    for arm in planned:
        scores = [
            trial.metrics.get(metric.name)
            for trial in complete(trials)
            if trial.recipe == arm.recipe
        ]
        if len(scores) > 1 and len(set(scores)) == 1 and scores[0] is not None:
            value = f"{metric.scale * scores[0]:.6g}{' %' if metric.unit == 'pp' else ''}"
            alike.setdefault(f"{value} at all {len(scores)} seeds", []).append(arm.name)
    if not alike:
        return ()
    shown = "; ".join(f"{', '.join(names)} ({value})" for value, names in alike.items())
    why = "the seed changes nothing there, or nothing was learned: intervals mean nothing"
    return (f"{metric.name} never varies in {shown}: {why}",)


@dataclass(slots=True, kw_only=True)
class ArmsPhase(Phase):
    """One study under one profile, on its way from plan to report.

    Attributes:
        arms: in the order of the study.
        codes: fingerprint of the plug-ins of each recipe, by its id; empty for a script.
        source: what ``--study`` takes for this study.
        asked: the command that makes these trials again.
        part: what failures are introduced with, where the study is a part of a run.
        extra: what retuning adds to the plan.
        write: writes the report in place of this study's own: that of the search which it confirms.
        blocks: seeds of which every arm was final when a report was last drawn.
        reported: when that was; 0 before the first time.
        drawing, drawn: the thread that draws a provisional report, and what there is to say of it.
        overrides: recipe fields as given by ``--base`` and ``--set``, for the command of the next size.
    """

    arms: tuple[Arm, ...]
    codes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    asked: str = ""
    part: str = ""
    extra: Extra | None = None
    write: Callable[[bool], Written] | None = None
    blocks: int = 0
    reported: float = 0.0
    drawing: threading.Thread | None = None
    drawn: list[str] = field(default_factory=list)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    outlives_errors: ClassVar[bool] = True

    @classmethod
    def prepare(
        cls,
        study: Study,
        why: str,
        *,
        workers: int | None,
        device: str,
        storage: str | None,
        artifacts: str | None,
        screen: bool,
        retry_failed: bool,
        source: str = "",
        asked: str = "",
        overrides: Mapping[str, Any] = MappingProxyType({}),
        place: Place = Place(),  # noqa: B008 - frozen
    ) -> ArmsPhase:
        """Check every arm against its images and time a few steps, so that what cannot run fails before anything is written.

        Of a script it is checked that it is there; what a trial of it takes is not known before the
        first.

        ``source`` is what ``--study`` takes for this study, and ``asked`` the command that makes
        these trials again.
        """
        planned = arms(study)
        ground: Arena | None = None
        layout: Layout | Places
        codes: dict[str, str] = {}
        if study.scripted:
            place.check_script()
            code, fingerprint = check_script(study), ""
            codes = {arm.recipe.id: script_code(study, arm.recipe) for arm in planned}
            layout = choose_places(study, device=device, workers=workers)
        else:
            from harness.train.check import check

            # every arm: a net that does not fit is to be known before the first trial, not at the
            # tenth
            grounds = [check(arm.recipe) for arm in planned]
            ground = grounds[0]
            layout = place.layout(planned[0].recipe, device=device, workers=workers)
            code, fingerprint = study_code(study), ground.split.fingerprint
            codes = {arm.recipe.id: cell_code(study, arm.recipe) for arm in planned}

        return cls(
            study=study,
            why_profile=why,
            arms=planned,
            cells=cells(study, fingerprint, codes or code),
            ground=ground,
            layout=layout,
            storage=storage,
            artifacts=artifacts,
            screen=screen,
            retry_failed=retry_failed,
            code=code,
            codes=codes,
            source=source,
            asked=asked,
            overrides=overrides,
            place=place,
        )

    def already_done(self) -> list[Trial]:
        """Return the final trials of this plan, in its ledger or to be adopted, touching nothing."""
        keys = {cell.key for cell in self.cells}
        try:
            with self.open(create=False) as ledger:
                done = [trial for trial in ledger.trials() if trial.cell in keys]
        except StorageError:
            done = []

        there = {trial.cell for trial in done}
        missing = [cell for cell in self.cells if cell.key not in there]
        return done + [trial for trial, _, _ in self.offers(missing)]

    def offers(self, wanted: Sequence[Cell]) -> list[Offer]:
        """Return trials of these cells that are finished elsewhere: in other ledgers under runs/, else in reports."""
        from harness.ledger import find_adoptable
        from harness.report import find_reported

        offered = find_adoptable(wanted, RUNS)
        there = {trial.cell for trial, _, _ in offered}
        missing = [cell for cell in wanted if cell.key not in there]
        return offered + find_reported(missing, REPORTS)

    def facts(self, finished: Sequence[Trial]) -> PlanFacts:
        """Return the plan for people, given the trials that are final already."""
        to_run = len(self.cells) - len(finished)
        each, source = self._cost(finished)
        extra = self.extra or Extra("", 0, 0.0)
        adopted = Counter(trial.adopted for trial in finished if trial.adopted)
        # a script's words and variables, of which one has to name the seed
        words = self.study.command
        seeded = any("{seed}" in word for word in (*words, *self.study.env.values()))

        return PlanFacts(
            study=self.study.name,
            question=self.study.question,
            profile=self.study.profile,
            why_profile=self.why_profile,
            arms=len(self.arms),
            seeds=self.study.seeds,
            cells=len(self.cells),
            to_run=to_run,
            device=", ".join(self.layout.devices),
            workers=self.layout.workers,
            threads=self.layout.threads,
            why_workers=self.layout.why,
            engine=f"{self.layout.engine}: {self.layout.why_engine}"
            if not isinstance(self.layout, Places)
            else "",
            seconds_per_trial=each,
            seconds=self.seconds_of(to_run, finished),
            estimated_from=source,
            script=" ".join(words) or self.study.runner,
            seedless=bool(words) and not seeded,
            data=self.arms[0].recipe.data.name if self.ground is not None else "",
            **{f"{part}_images": count for part, count in self.image_counts().items()},
            report=str(self.folder / "index.html"),
            power=self._power(finished),
            adopted=dict(sorted(adopted.items())),
            retune=extra.words,
            retune_trials=extra.trials,
            retune_seconds=extra.seconds,
        )

    def seconds_of(self, trials: int, finished: Sequence[Trial] = ()) -> float | None:
        """Return what so many trials take here; None for a script that has never run to its end."""
        each, _ = self._cost(finished)
        return None if each is None else each * trials / min(self.layout.workers, max(trials, 1))

    def _cost(self, finished: Sequence[Trial]) -> tuple[float | None, str]:
        """Seconds of a trial and where they come from; None for a script that has never run to its end."""
        if not isinstance(self.layout, Places):
            return self.layout.timing.seconds, f"from {self.layout.timing.steps} timed steps"
        done = complete(finished)
        if not done:
            return None, "what the script takes is known once its first trial is done"
        mean = sum(trial.train_seconds for trial in done) / len(done)
        return mean, f"the mean of {plural(len(done), 'finished trial')}"

    def _power(self, finished: Sequence[Trial]) -> str:
        from harness.analysis.power_plan import plan_power

        images = self.image_counts()["val"]
        return plan_power(
            self.study, finished=finished, metrics=own_metrics(self.study), images=images
        ).finds()

    def retries(self, ledger: SearchLedger) -> bool:
        """Return whether failed trials are run again: as asked, or where nothing but failures came of an earlier run.

        The cause of the latter was repaired, or shows again at once.
        """
        trials = ledger.trials()
        return self.retry_failed or (
            bool(trials) and all(trial.state == "failed" for trial in trials)
        )

    def plan_facts(self, ledger: SearchLedger, planned: Planned) -> PlanFacts | None:  # noqa: ARG002
        """Return the plan for people; None where the plan of the phase before covers it."""
        return None if self.earlier else self.facts(ledger.trials())

    def first_cells(self) -> tuple[Cell, ...]:
        """Return the cells that are planned at the start: all, or those up to the first look."""
        if not self.study.looks:
            return self.cells
        code = self.codes or self.code
        return cells(self.study, self.fingerprint, code, upto_seed=self.study.looks[0])

    def after_look(self, ledger: SearchLedger) -> tuple[Cell, ...]:
        """Return the cells that a completed look calls for, beyond those planned; none when all is decided."""
        from harness.analysis import look_decisions

        if not self.study.looks:
            return ()
        trials = ledger.trials()
        curves = {trial.cell: ledger.artifact(trial)[0] for trial in trials if trial.epochs}
        names = look_decisions(
            self.study,
            trials,
            curves=curves,
            classes=len(self.classes),
            data_fingerprint=self.fingerprint,
            metrics=own_metrics(self.study),
        )

        # The A/A arm's seeds are beyond every other and count for no look.
        done = {cell.key for cell in self.planned}
        seeds_done = len({cell.seed for cell in self.planned if cell.seed < CONTROL_OFFSET})
        due = next((look for look in self.study.looks if look > seeds_done), None)
        if not names or due is None:
            return ()

        code = self.codes or self.code
        wanted = cells(self.study, self.fingerprint, code, arms_in=names, upto_seed=due)
        return tuple(cell for cell in wanted if cell.key not in done)

    def look_line(self, more: Sequence[Cell]) -> str:
        """Return how far the look was, and which arms it leaves undecided."""
        # the baseline goes on for the others' sake
        baseline = self.arms[0].recipe
        names = sorted({self.arms_of(cell.recipe) for cell in more if cell.recipe != baseline})
        seeds = {cell.seed for cell in self.planned if cell.seed < CONTROL_OFFSET}
        return f"look at {len(seeds)} seeds: still undecided: {', '.join(names)}"

    def line(self, trial: Trial) -> str:
        """Return arm, seed and scores of a trial."""
        name = f"{self.arms_of(trial.recipe)} seed {trial.seed}"
        if trial.state == "complete":
            seconds = trial.train_seconds + trial.eval_seconds
            return f"{name}: {self._scores(trial.metrics)}, {seconds:.1f} s"
        if self.study.scripted and not trial.epochs:
            # a script reports its epochs only at its end
            return f"{name}: {trial.state}: {trial.error}"

        why = trial.error
        if trial.state == "pruned" and not why:
            why = "Still guessing, or worse than the median." if self.screen else "Still guessing."
        return f"{name}: {trial.state} after {plural(trial.epochs, 'epoch')}. {why}".rstrip()

    def _scores(self, metrics: Mapping[str, float]) -> str:
        """What a line says of a trial or of a mean: the metrics that are there of these, and the one that decides."""
        shown = {
            "accuracy": "val {:.1f} %",
            "train_accuracy": "train {:.1f} %",
            "gap": "gap {:.1f} pp",
        }
        words = [
            form.format(100 * metrics[name]) for name, form in shown.items() if name in metrics
        ]
        decides = self.study.metric
        if decides not in shown and self.study.scripted:
            words.insert(0, f"{decides} {metrics[decides]:.4g}")
        return ", ".join(words)

    def note(self, trials: Collection[Trial]) -> str:
        """Return the running means: a line an arm that has any, its scores and n."""
        done: dict[str, list[Trial]] = {}
        for trial in complete(trials):
            # those of an A/A arm are other seeds of the baseline
            if trial.seed < CONTROL_OFFSET:
                done.setdefault(trial.recipe.id, []).append(trial)
        width = max(len(arm.name) for arm in self.arms)
        return "\n".join(
            f"{arm.name:{width}}  {self._mean(done[arm.recipe.id])}"
            for arm in self.arms
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

    def begin(self, trials: Mapping[str, Trial]) -> None:
        """Count the blocks of seeds that are whole when the workers start."""
        self.blocks = self._whole_blocks(trials)

    def _whole_blocks(self, trials: Mapping[str, Trial]) -> int:
        whole: dict[int, bool] = {}
        for cell in self.planned:
            whole[cell.seed] = whole.get(cell.seed, True) and cell.key in trials
        return sum(whole.values())

    def after_trial(
        self,
        ledger: SearchLedger,  # noqa: ARG002 - the report has one of its thread's own
        trials: Mapping[str, Trial],
        on_event: OnEvent,
    ) -> None:
        """Begin the provisional report after a block of seeds; the bar and the trials go on meanwhile."""
        self._say_drawn(on_event)
        # After whole blocks only: half a block compares arms on different seeds. The last report is
        # drawn by the loop itself.
        blocks = self._whole_blocks(trials)
        last = len(trials) == len(self.planned)
        due = self.reported == 0 or time.monotonic() - self.reported > REPORT_SECONDS
        if blocks <= self.blocks or last or not due or self.drawing is not None:
            return
        self.blocks = blocks
        self.drawing = threading.Thread(target=self._draw, name="harness-report", daemon=True)
        self.drawing.start()

    def after_workers(self, on_event: OnEvent) -> None:
        """Wait for a report that is being drawn: the last one goes to the same folder."""
        if self.drawing is not None:
            self.drawing.join()
        self._say_drawn(on_event)

    def _draw(self) -> None:
        """Draw the provisional report, with a ledger of this thread's own."""
        first = self.reported == 0
        try:
            # a trial's artifact may be replaced while it is read
            with contextlib.suppress(FileNotFoundError), self.open(create=False) as ledger:
                written = self.report(ledger, provisional=True)
                if first:
                    self.drawn.append(f"provisional report: {written.index}")
        # a full disk, say: the trials go on, and the last report says so again
        except HarnessError as error:
            self.drawn.append(f"no provisional report: {error.message}")
        self.reported = time.monotonic()

    def _say_drawn(self, on_event: OnEvent) -> None:
        """Say what became of the report that was being drawn, from the thread that follows the run."""
        if self.drawing is not None and not self.drawing.is_alive():
            self.drawing = None
        while self.drawn:
            on_event(self.drawn.pop(0))

    def drain(
        self, ledger: SearchLedger, new: int, deadline: float | None, on_event: OnEvent
    ) -> LaunchResult | None:
        """Say which runs of a script are read again, then start the workers and follow them."""
        if self.study.scripted:
            self._say_on_disk(ledger, on_event)
        return Phase.drain(self, ledger, new, deadline, on_event)

    def _say_on_disk(self, ledger: SearchLedger, on_event: OnEvent) -> None:
        from harness.workers.script import on_disk

        done = {trial.cell for trial in ledger.trials() if trial.state != "failed"}
        left = [cell for cell in self.planned if cell.key not in done]
        count = on_disk(self.study, RUNS / self.study.folder, left)
        if count:
            runs = plural(count, "run")
            on_event(
                f"{runs} on disk ended well: read now, and trained again only where nothing is found"
            )

    def _notes(self, trials: Sequence[Trial]) -> tuple[str, ...]:
        """What is to be said of scores that do not vary, and of how a script's numbers were read."""
        if not self.study.scripted:  # our engine draws from the seed
            return ()
        from harness.workers.script import reading_notes

        done = {trial.cell for trial in complete(trials)}
        cells_done = [cell for cell in self.planned if cell.key in done]
        notes = reading_notes(self.study, RUNS / self.study.folder, cells_done)
        return (*same_scores(self.arms, trials, metric_of(self.study)), *notes)

    def _again(self, trials: Sequence[Trial]) -> str:
        """What runs the failed trials again; runs of a script that ended well are read, and nothing is trained."""
        if not self.asked:
            return ""
        failed = [trial for trial in trials if trial.state == "failed"]
        unread = sum("ended well, but" in trial.error for trial in failed)
        if not unread:
            then = f"`{self.asked} --retry-failed` runs the failed trials again"
            return f"once the cause is repaired, {then}"
        # other rules make other cells of all of them: those that failed otherwise run again, too
        others = ", runs the other failed trials again" if unread < len(failed) else ""
        return (
            f"once [metrics] in the study file fits what the script writes, `{self.asked}` "
            f"reads {plural(unread, 'run')} that ended well without training{others}"
        )

    def finish(self, ledger: SearchLedger, on_event: OnEvent) -> Written:
        """Write the report, and what it recommends."""
        from harness.commands.report import trials_kept

        on_event("writing the report")
        with trials_kept(self.study.folder, storage=self.storage):
            written = self.report(ledger)
            self.write_recommended(written)
        return written

    def report(self, ledger: SearchLedger, *, provisional: bool = False) -> Written:
        """Write the report over what the ledger holds."""
        if self.write is not None:
            return self.write(provisional)

        from harness.commands.report import from_ledger
        from harness.commands.retune import retuning_of

        return from_ledger(
            ledger,
            self.study,
            self.folder,
            **self._pictures(),
            provenance=self._provenance(ledger.trials()),
            provisional=provisional,
            screening=self.screen,
            metrics=own_metrics(self.study),
            # a screening judges nothing, so there is no verdict to look at again
            retuning=retuning_of(self.study, storage=self.storage, runs=RUNS)
            if not self.screen
            else None,
        )

    def _pictures(self) -> dict[str, Any]:
        """Labels, class names and augmented images; nothing where a script reads its own images."""
        if self.ground is None:
            return {}
        from harness.train.samples import augmented

        return {
            "labels": self.ground.split.val_labels_N.cpu().numpy(),
            "classes": self.classes,
            "samples": {arm.name: augmented(arm.recipe, self.ground) for arm in self.arms},
        }

    def write_recommended(self, written: Written) -> None:
        """Write what the report recommends as a recipe file that ``--base`` takes, or take an outdated one away."""
        from harness.study.recipe_file import write_recipe

        if self.write is not None:  # the folder of a search's report has the recipe of its winner
            return
        path = self.folder / "recommended.toml"
        changes = written.analysis.recommended
        if (
            not changes
            or self.study.scripted
            # before the last seed, what is recommended may still turn
            or written.analysis.seeds_planned > len(written.analysis.seeds)
        ):
            path.unlink(missing_ok=True)
            return

        # On top of the baseline: a recipe file is taken as a base and has to be whole.
        fields = {**carried(self.arms[0].recipe.changed(), changes), **changes}
        arm = written.analysis.recommended_arm
        why = (
            f"run as arm {arm}, chosen after seeing its results"
            if arm
            else "unconfirmed until it is run on fresh seeds"
        )
        write_recipe(path, fields, name=f"{self.study.folder}-recommended", why=why)

    def _provenance(self, trials: Sequence[Trial]) -> Provenance:
        from harness.bench.result import saved_benchmark

        places = sorted(
            {
                f"{t.environment.device} ({t.environment.cpu})"
                for t in trials
                if t.environment.device
            }
        )
        # of the trials, not of this process: they may have been taken over from an older one
        commits = sorted({t.environment.commit for t in trials if t.environment.commit})
        return self.provenance(
            *([self.asked] if self.asked else []),
            hardware="; ".join(places),
            harness=next((t.environment.harness for t in trials), ""),
            commit=", ".join(commits),
            bench=saved_benchmark(
                next((t.environment for t in trials if t.environment.device), None)
            ),
        )

    def failure(self, trial: Trial) -> str:
        """Return arm, seed and error."""
        return f"{self.part}{self.arms_of(trial.recipe)} seed {trial.seed}: {trial.error}"

    def error_line(self, error: HarnessError) -> str:
        """Return what kept the workers from going on, with the part of the run it concerns."""
        if self.asked and isinstance(error, TrialError):  # the outcome says what to run
            return self.part + error.message
        return self.part + Phase.error_line(self, error)

    def outcome(self, ended: Sequence[Ended]) -> Outcome:
        """Return the outcome of a run that began with this phase, whose plan and report are the run's."""
        from harness.report import support

        first, common = ended[0], summed(ended)
        answer = ""
        if (written := first.written) is not None:
            answer = "\n".join((written.answer, *support(written.analysis)[:1]))

        return Outcome(
            study=self.study.name,
            profile=self.study.profile,
            answer=answer,
            report=written.index if written is not None else None,
            elsewhere=self.study.folder if self.place.launcher == "slurm" else "",
            next_command=self.next_command(),
            again=self._again(first.trials) if common["failures"] else "",
            notes=self._notes(first.trials),
            **common,
        )

    def next_command(self) -> str:
        """Return the command for the next size up with its cost; empty at the largest, and for a script, which has no sizes."""
        if isinstance(self.layout, Places):
            return ""
        source = self.source or self.study.name
        return next_size(
            self.study,
            self.layout,
            source,
            overrides=self.overrides,
            line=lambda profile: command(source, profile, overrides=self.overrides),
        )

    def arms_of(self, recipe: Recipe) -> str:
        """Return the names of the arms that have a recipe."""
        return ", ".join(arm.name for arm in self.arms if arm.recipe == recipe) or recipe.id
