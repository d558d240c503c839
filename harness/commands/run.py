"""One study under one profile, on its way from plan through workers to the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.commands.choose_profile import command, next_size
from harness.commands.facts import Extra, OnEvent, Outcome, PlanFacts
from harness.commands.follow import Watch
from harness.commands.place import RUNS, Place
from harness.commands.script_places import Places, choose_places
from harness.commands.setup import REPORTS, Setup
from harness.study.arms import Arm, arms
from harness.study.cells import CONTROL_OFFSET, cells
from harness.study.fingerprints import cell_code, study_code
from harness.study.metrics import own_metrics
from harness.study.plugin_fields import carried
from harness.study.recipe import Recipe
from harness.study.script_code import check_script, script_code
from harness.study.study import Study
from harness.study.trial import Cell, Trial, complete
from harness.text import plural

if TYPE_CHECKING:
    from harness.ledger import Ledger, Offer
    from harness.report import Provenance, Written
    from harness.train.run import Arena
    from harness.train.timing import Layout
    from harness.workers.join import LaunchResult


def _all_failed(trials: Sequence[Trial]) -> bool:
    return bool(trials) and all(trial.state == "failed" for trial in trials)


def same_scores(planned: Sequence[Arm], trials: Sequence[Trial], metric: str) -> tuple[str, ...]:
    """Return a sentence for every arm whose score is the same to the last digit at every seed: its seed changes nothing."""
    notes = []
    for arm in planned:
        scores = [
            trial.metrics.get(metric) for trial in complete(trials) if trial.recipe == arm.recipe
        ]
        if len(scores) > 1 and len(set(scores)) == 1 and scores[0] is not None:
            told = f"{arm.name}: {metric} is the same, {scores[0]:.6g}, at all {len(scores)} seeds"
            notes.append(f"{told}: the seed seems to change nothing, so its interval means nothing")
    return tuple(notes)


@dataclass(slots=True, kw_only=True)
class Job(Setup):
    """One study under one profile, on its way from plan to report.

    Attributes:
        write: writes the report in place of this study's own: that of the search which it confirms.
    """

    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]
    retry_failed: bool = False
    codes: Mapping[str, str] = field(default_factory=dict)
    planned: tuple[Cell, ...] = ()
    before: int = 0
    reported: float = 0.0
    source: str = ""
    asked: str = ""
    extra: Extra | None = None
    write: Callable[[bool], Written] | None = None

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
        place: Place = Place(),  # noqa: B008 - frozen
    ) -> Job:
        """Check every arm against its images and time a few steps, so that what cannot run fails before anything is written.

        Of a script of the user's, it is checked that it is there; what a trial of it takes is not
        known before the first.

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
            from harness.train.run import check

            grounds = [check(arm.recipe) for arm in planned]
            ground = grounds[0]
            layout = place.layout(planned[0].recipe, device=device, workers=workers)
            code, fingerprint = study_code(study), ground.split.fingerprint
            codes = {arm.recipe.id: cell_code(study, arm.recipe) for arm in planned}
        found = cells(study, fingerprint, codes or code)
        return cls(
            study=study,
            why_profile=why,
            arms=planned,
            cells=found,
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
            place=place,
        )

    def already_done(self) -> list[Trial]:
        """Return the final trials of this plan, in its ledger or to be adopted, touching nothing."""
        from harness.errors import StorageError
        from harness.ledger import Ledger

        keys = {cell.key for cell in self.cells}
        try:
            with Ledger.open(
                self.study.folder, storage=self.storage, runs=RUNS, create=False
            ) as ledger:
                done = [trial for trial in ledger.trials() if trial.cell in keys]
        except StorageError:
            done = []
        there = {trial.cell for trial in done}
        return done + [
            trial
            for trial, _, _ in self.offers([cell for cell in self.cells if cell.key not in there])
        ]

    def offers(self, wanted: Sequence[Cell]) -> list[Offer]:
        """Return trials of these cells that are finished elsewhere: in other ledgers under runs/, else in reports."""
        from harness.ledger import find_adoptable
        from harness.report import find_reported

        found = find_adoptable(wanted, RUNS)
        there = {trial.cell for trial, _, _ in found}
        return found + find_reported([cell for cell in wanted if cell.key not in there], REPORTS)

    def facts(self, finished: Sequence[Trial]) -> PlanFacts:
        """Return the plan for people, given the trials that are final already."""
        to_run = len(self.cells) - len(finished)
        each, source = self._cost(finished)
        counts = self.image_counts()
        return PlanFacts(
            study=self.study.name,
            question=self.study.question,
            profile=self.study.profile,
            why_profile=self.why_profile,
            arms=len(self.arms),
            seeds=self.study.seeds,
            cells=len(self.cells),
            to_run=to_run,
            device=self.layout.devices[0]
            if len(self.layout.devices) == 1
            else ", ".join(self.layout.devices),
            workers=self.layout.workers,
            threads=self.layout.threads,
            why_workers=self.layout.why,
            engine=f"{self.layout.engine}: {self.layout.why_engine}"
            if not isinstance(self.layout, Places)
            else "",
            seconds_per_trial=each,
            seconds=self.seconds_of(to_run, finished),
            estimated_from=source,
            script=" ".join(self.study.command) or self.study.runner,
            seedless=bool(self.study.command)
            and not any(
                "{seed}" in word for word in (*self.study.command, *self.study.env.values())
            ),
            data=self.arms[0].recipe.data.name if self.ground is not None else "",
            **{f"{part}_images": count for part, count in counts.items()},
            report=str(self.folder / "index.html"),
            power=self._power(finished),
            adopted=dict(
                sorted(Counter(trial.adopted for trial in finished if trial.adopted).items())
            ),
            retune=self.extra.words if self.extra is not None else "",
            retune_trials=self.extra.trials if self.extra is not None else 0,
            retune_seconds=self.extra.seconds if self.extra is not None else 0.0,
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

        if len(self.arms) < 2:
            return ""  # nothing is compared
        return plan_power(self.study, finished=finished, metrics=own_metrics(self.study)).finds()

    def run(self, deadline: float | None, on_event: OnEvent) -> Outcome:
        """Plan, drain and report."""
        from harness.commands.report import trials_kept
        from harness.ledger import Ledger

        plan = self.plan(self.study)
        with Ledger.open(
            self.study.folder, storage=self.storage, artifacts=self.artifacts, runs=RUNS
        ) as ledger:
            result: LaunchResult | None = None
            facts: PlanFacts | None = None
            wanted = self.first_cells()
            while True:
                # Where nothing but failures came of an earlier run, its cause was repaired, or
                # shows again at once.
                retry = facts is None and (self.retry_failed or _all_failed(ledger.trials()))
                planned = ledger.plan(plan, wanted, adopt=self.offers(wanted), retry_failed=retry)
                self.before, self.planned = planned.total - planned.new, wanted
                if facts is None:
                    facts = self.facts(ledger.trials())
                    on_event(facts)
                if planned.new and self.study.scripted:
                    self._say_on_disk(ledger, on_event)
                if planned.new:
                    result = (
                        self.drain(self.study, planned.new, deadline, Watch(self, ledger, on_event))
                        or result
                    )
                    if ledger.counts().open:
                        break
                more = self.after_look(ledger)
                if not more:
                    break
                names = ", ".join(sorted({self.arms_of(cell.recipe) for cell in more}))
                on_event(
                    f"look at {len({cell.seed for cell in wanted})} seeds: still undecided: {names}"
                )
                wanted = (*wanted, *more)
            on_event("writing the report")
            with trials_kept(self.study.folder, storage=self.storage):
                written = self.report(ledger)
                self.write_recommended(written)
            return self._outcome(ledger, facts, written, result)

    def _say_on_disk(self, ledger: Ledger, on_event: OnEvent) -> None:
        from harness.workers.script import on_disk

        done = {trial.cell for trial in ledger.trials() if trial.state != "failed"}
        left = [cell for cell in self.planned if cell.key not in done]
        count = on_disk(self.study, RUNS / self.study.folder, left)
        if count:
            runs = plural(count, "run")
            on_event(
                f"{runs} on disk ended well: read now, and trained again only where nothing is found"
            )

    def _notes(self, ledger: Ledger) -> tuple[str, ...]:
        """What is to be said of scores that do not vary, and of how a script's numbers were read."""
        trials = ledger.trials()
        notes = same_scores(self.arms, trials, self.study.metric)
        if not self.study.scripted:
            return notes
        from harness.workers.script import reading_notes

        done = {trial.cell for trial in complete(trials)}
        cells_done = [cell for cell in self.planned if cell.key in done]
        notes += tuple(reading_notes(self.study, RUNS / self.study.folder, cells_done))
        if any("ended well, but" in trial.error for trial in trials):
            notes += (
                "once [metrics] says how to read them, the runs that ended well are read and not trained again",
            )
        return notes

    def first_cells(self) -> tuple[Cell, ...]:
        """Return the cells that are planned at the start: all, or those up to the first look."""
        if not self.study.looks:
            return self.cells
        return cells(
            self.study, self.fingerprint, self.codes or self.code, upto_seed=self.study.looks[0]
        )

    def after_look(self, ledger: Ledger) -> tuple[Cell, ...]:
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
        done = {cell.key for cell in self.planned}
        seeds_done = len({cell.seed for cell in self.planned if cell.seed < CONTROL_OFFSET})
        due = next((look for look in self.study.looks if look > seeds_done), None)
        if not names or due is None:
            return ()
        found = cells(
            self.study, self.fingerprint, self.codes or self.code, arms_in=names, upto_seed=due
        )
        return tuple(cell for cell in found if cell.key not in done)

    def report(self, ledger: Ledger, *, provisional: bool = False) -> Written:
        """Write the report over what the ledger holds."""
        if self.write is not None:
            return self.write(provisional)

        from harness.commands.report import from_ledger
        from harness.commands.retune_report import retuning_of

        return from_ledger(
            ledger,
            self.study,
            self.folder,
            **self._pictures(),
            provenance=self._provenance(ledger.trials()),
            provisional=provisional,
            screening=self.screen,
            metrics=own_metrics(self.study),
            retuning=retuning_of(self.study, storage=self.storage, runs=RUNS)
            if not self.screen
            else None,
        )

    def _pictures(self) -> dict[str, Any]:
        """Labels, class names and augmented images; nothing where a script sees to its own images."""
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

        if self.write is not None:  # a search's report has the recipe of its winner beside it
            return
        path = self.folder / "recommended.toml"
        changes = written.analysis.recommended
        if (
            not changes
            or self.study.scripted
            or written.analysis.seeds_planned > len(written.analysis.seeds)
        ):
            path.unlink(missing_ok=True)
            return
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

    def _outcome(
        self, ledger: Ledger, facts: PlanFacts, written: Written, result: LaunchResult | None
    ) -> Outcome:
        from harness.report import support

        counts = ledger.counts()
        failures = [
            f"{self.arms_of(t.recipe)} seed {t.seed}: {t.error}"
            for t in ledger.trials()
            if t.state == "failed"
        ]
        left = counts.open > 0
        interrupted = bool(result and result.interrupted)
        error = result.error if result and left else None
        if error is not None:
            failures.append(f"{error.message}\n{error.hint}" if error.hint else error.message)
        return Outcome(
            study=self.study.name,
            profile=self.study.profile,
            plan=facts,
            answer="\n".join((written.answer, *support(written.analysis)[:1])),
            report=written.index,
            counts={name: getattr(counts, name) for name in counts.__slots__},
            interrupted=interrupted and left,
            out_of_time=left and not interrupted and error is None,
            elsewhere=self.study.folder if self.place.launcher == "slurm" else "",
            failures=failures,
            next_command=self.next_command(),
            again=f"{self.asked} --retry-failed" if failures and self.asked else "",
            notes=self._notes(ledger),
        )

    def next_command(self) -> str:
        """Return the command for the next size up with its cost; empty at the largest, and for a script, which has no sizes."""
        if isinstance(self.layout, Places):
            return ""
        source = self.source or self.study.name
        return next_size(
            self.study, self.layout, source, line=lambda profile: command(source, profile)
        )

    def arms_of(self, recipe: Recipe) -> str:
        """Return the names of the arms that have a recipe."""
        return ", ".join(arm.name for arm in self.arms if arm.recipe == recipe) or recipe.id
