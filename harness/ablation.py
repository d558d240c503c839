"""``ablate``: from a study's name to a finished report, through plan, ledger and workers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.design import Arm, arms, cells
from harness.study import PROFILES, Study, load_study
from harness.trial import Cell, Trial

if TYPE_CHECKING:
    from harness.launch import LaunchResult
    from harness.ledger import Ledger
    from harness.report import Provenance, Written
    from harness.train.run import Arena
    from harness.train.timing import Layout

OnEvent = Callable[[Any], None]
AUTO_SECONDS = 15 * 60  # without --profile, a larger profile is taken only when its estimate stays within this
REPORT_SECONDS = 15  # a provisional report is drawn again no sooner than this
REPORTS = Path("reports")
RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is about to be run and what it will cost, for people to read before it starts.

    ``lines()`` says it in words; every number of it is a field.
    """

    study: str
    question: str
    profile: str
    why_profile: str
    arms: int
    seeds: int
    cells: int
    to_run: int
    device: str
    workers: int
    threads: int
    why_workers: str
    seconds_per_trial: float
    seconds: float
    estimated_from: str
    data: str
    train_images: int
    val_images: int
    test_images: int
    report: str
    power: str = ""

    def lines(self) -> list[str]:
        """Return the plan, a fact a line."""
        from harness.console import duration

        done = self.cells - self.to_run
        kept = f", {done} of them done already" if done else ""
        where = f"{_count(self.workers, 'process', 'processes')} of {_count(self.threads, 'thread')}"
        return [
            f"profile {self.profile}: {self.why_profile}",
            f"images {self.data}: {self.train_images:,} train, {self.val_images:,} validation (decide), "
            f"{self.test_images:,} test (read once a trial)",
            f"{_count(self.arms, 'arm')} x {_count(self.seeds, 'seed')} = {_count(self.cells, 'trial')}{kept}",
            f"{where} on {self.device}: {self.why_workers}",
            f"about {duration(self.seconds)}: {self.seconds_per_trial:.1f} s a trial, {self.estimated_from}",
            *([self.power] if self.power else []),
            f"report: {self.report}",
        ]


@dataclass(frozen=True, slots=True)
class ProgressFacts:
    """How far a run has come; ``line`` is set when a trial has just ended."""

    title: str
    done: int
    total: int
    before: int
    note: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of a study came to."""

    study: str
    profile: str
    plan: PlanFacts
    answer: str = ""
    report: Path | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    interrupted: bool = False
    out_of_time: bool = False
    failures: Sequence[str] = ()
    next_command: str = ""
    dry: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 1 ran with failures, 130 stopped before the end."""
        if self.interrupted or self.out_of_time:
            return 130
        return 1 if self.failures else 0

    def closing(self) -> list[str]:
        """Return what remains to be said, a line each."""
        lines = [f"failed: {failure}" for failure in self.failures]
        left = self.counts.get("waiting", 0) + self.counts.get("running", 0)
        if left and not self.dry:
            why = "stopped by hand" if self.interrupted else "out of time"
            lines.append(f"{why}: {_count(left, 'trial')} left; the same command goes on from here")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "study": self.study,
            "profile": self.profile,
            "plan": {name: getattr(self.plan, name) for name in self.plan.__slots__},
            "answer": self.answer,
            "report": str(self.report) if self.report else None,
            "trials": dict(self.counts),
            "interrupted": self.interrupted,
            "out_of_time": self.out_of_time,
            "failures": list(self.failures),
            "next": self.next_command,
        }


def ablate(
    study: Study | str,
    *,
    profile: str | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    storage: str | None = None,
    artifacts: str | None = None,
    device: str = "auto",
    timeout: float | None = None,
    dry_run: bool = False,
    on_event: OnEvent = lambda _: None,
) -> Outcome:
    """Run every cell of a study that has not been run yet, and write its report.

    Args:
        study: a study, its name, or a study file.
        profile: quick, small, full or the study's own; None takes the largest that fits here (see ``choose_profile``).
        seeds: number of seeds, in place of the profile's.
        overrides: recipe fields, between the profile's and the arms'.
        workers: processes; None lets timed steps decide.
        storage: where the ledger is kept; None for ``runs/<study>-<profile>/journal.log``.
        artifacts: folder for curves and per-image outcomes.
        device: auto, cpu, cuda or cuda:N.
        timeout: seconds from now after which no new trial starts.
        dry_run: work out the plan and touch nothing.
        on_event: given ``PlanFacts``, ``ProgressFacts`` and lines of text as they come.

    Raises:
        HarnessError: nothing ran: the study, the recipe, the images or the storage cannot be used.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    loaded = load_study(study) if isinstance(study, str) else study
    chosen, why = (profile, "as asked") if profile else choose_profile(loaded, device=device, on_event=on_event)
    resolved = loaded if loaded.profile else loaded.under(chosen, overrides=overrides, seeds=seeds)
    job = _Job.prepare(resolved, why, workers=workers, device=device, storage=storage, artifacts=artifacts)
    if dry_run:
        facts = job.facts(job.already_done())
        on_event(facts)
        return Outcome(resolved.name, resolved.profile, facts, next_command=job.next_command(), dry=True)
    return job.run(deadline, on_event)


def choose_profile(study: Study, *, device: str = "auto", on_event: OnEvent = lambda _: None) -> tuple[str, str]:
    """Return (profile, why): the largest whose images are here and whose timed estimate is within 15 minutes, else quick.

    Nothing is downloaded, and nothing is refused.
    """
    from harness.console import duration
    from harness.errors import HarnessError
    from harness.train import data
    from harness.train.timing import choose_layout, has_gpu

    reasons = []
    for name in reversed(PROFILES[1:]):
        resolved = study.under(name)
        recipe = arms(resolved)[0].recipe
        if not data.available(recipe.data.name):
            reasons.append(f"{name} needs {recipe.data.name}, which is not here")
        elif name == "full" and (device == "cpu" or not has_gpu()):
            reasons.append("full needs a GPU")
        else:
            on_event(f"timing a few steps of profile {name}")
            try:
                layout = choose_layout(recipe, device=device)
            except HarnessError as error:
                reasons.append(f"{name}: {error.message}")
                continue
            seconds = layout.timing.seconds * len(cells(resolved, "")) / layout.workers
            if seconds <= AUTO_SECONDS:
                return name, f"the largest that fits in {duration(AUTO_SECONDS)}"
            reasons.append(f"{name} would take {duration(seconds)}")
    return "quick", "; ".join(reasons)


@dataclass(slots=True)
class _Job:
    """One study under one profile, on its way from plan to report."""

    study: Study
    why_profile: str
    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]
    ground: Arena
    layout: Layout
    storage: str | None
    artifacts: str | None
    before: int = 0
    reported: float = 0.0

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
    ) -> _Job:
        """Check every arm against its images and time a few steps, so that what cannot run fails before anything is written."""
        from harness.train.run import check
        from harness.train.timing import choose_layout

        planned = arms(study)
        grounds = [check(arm.recipe) for arm in planned]
        layout = choose_layout(planned[0].recipe, device=device, workers=workers)
        found = cells(study, grounds[0].split.fingerprint)
        return cls(study, why, planned, found, grounds[0], layout, storage, artifacts)

    @property
    def folder(self) -> Path:
        return REPORTS / self.study.folder

    def already_done(self) -> list[Trial]:
        """Return the final trials of this plan, reading the ledger if there is one and touching nothing."""
        from harness.errors import StorageError
        from harness.ledger import Ledger

        keys = {cell.key for cell in self.cells}
        try:
            with Ledger.open(self.study.folder, storage=self.storage, runs=RUNS, create=False) as ledger:
                return [trial for trial in ledger.trials() if trial.cell in keys]
        except StorageError:
            return []

    def facts(self, finished: Sequence[Trial]) -> PlanFacts:
        """Return the plan for people, given the trials that are final already."""
        timing, to_run, split = self.layout.timing, len(self.cells) - len(finished), self.ground.split
        return PlanFacts(
            study=self.study.name,
            question=self.study.question,
            profile=self.study.profile,
            why_profile=self.why_profile,
            arms=len(self.arms),
            seeds=self.study.seeds,
            cells=len(self.cells),
            to_run=to_run,
            device=self.layout.devices[0] if len(self.layout.devices) == 1 else ", ".join(self.layout.devices),
            workers=self.layout.workers,
            threads=self.layout.threads,
            why_workers=self.layout.why,
            seconds_per_trial=timing.seconds,
            seconds=timing.seconds * to_run / min(self.layout.workers, max(to_run, 1)),
            estimated_from=f"from {timing.steps} timed steps",
            data=self.arms[0].recipe.data.name,
            train_images=len(split.train_labels_N),
            val_images=len(split.val_labels_N),
            test_images=len(split.test_labels_N),
            report=str(self.folder / "index.html"),
            power=self._power(finished),
        )

    def _power(self, finished: Sequence[Trial]) -> str:
        from harness.plan import plan_power

        return plan_power(self.study, finished=finished).finds()

    def run(self, deadline: float | None, on_event: OnEvent) -> Outcome:
        """Plan, drain and report."""
        from harness.launch import run_local
        from harness.ledger import Ledger, Plan, chance_level, find_adoptable
        from harness.train import data

        split = self.ground.split
        plan = Plan(
            study=self.study,
            data_fingerprint=split.fingerprint,
            code_fingerprint="",
            threads=self.layout.threads,
            device=self.layout.devices[0].partition(":")[0],
            workers=self.layout.workers,
            data_root=str(data.data_root()),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            chance=chance_level(len(split.classes), len(split.val_labels_N)),
        )
        with Ledger.open(self.study.folder, storage=self.storage, artifacts=self.artifacts, runs=RUNS) as ledger:
            planned = ledger.plan(plan, self.cells, adopt=find_adoptable(self.cells, RUNS))
            self.before = planned.total - planned.new
            facts = self.facts(ledger.trials())
            on_event(facts)
            result: LaunchResult | None = None
            if planned.new:
                watch = _Watch(self, ledger, on_event)
                on_event(watch.progress())
                result = run_local(
                    name=self.study.folder,
                    storage=self.storage,
                    artifacts=self.artifacts,
                    runs=RUNS,
                    workers=min(self.layout.workers, planned.new),
                    devices=self.layout.devices,
                    threads=self.layout.threads,
                    deadline=deadline,
                    on_event=watch,
                )
            on_event("writing the report")
            written = self.report(ledger, incomplete=ledger.counts().open > 0)
            return self._outcome(ledger, facts, written, result)

    def report(self, ledger: Ledger, *, incomplete: bool, provisional: bool = False) -> Written:
        """Write the report over what the ledger holds."""
        from harness.report import write_report
        from harness.train.samples import augmented

        trials = ledger.trials()
        artifacts = {trial.cell: ledger.artifact(trial) for trial in trials if trial.epochs}
        wanted = {arm.name: augmented(arm.recipe, self.ground) for arm in self.arms}
        return write_report(
            self.folder,
            self.study,
            trials,
            curves={key: curve for key, (curve, _) in artifacts.items()},
            outcomes={key: outcomes for key, (_, outcomes) in artifacts.items() if outcomes is not None},
            labels=self.ground.split.val_labels_N.cpu().numpy(),
            classes=self.ground.split.classes,
            samples=wanted,
            incomplete=incomplete,
            provisional=provisional,
            provenance=self._provenance(trials),
        )

    def _provenance(self, trials: Sequence[Trial]) -> Provenance:
        from harness.report import Provenance

        split = self.ground.split
        places = sorted({f"{t.environment.device} ({t.environment.cpu})" for t in trials if t.environment.device})
        commits = sorted({t.environment.commit for t in trials if t.environment.commit})
        return Provenance(
            commands=(self.command(self.study.profile),),
            data=f"{self.arms[0].recipe.data.name}: {len(split.train_labels_N):,} train, {len(split.val_labels_N):,} validation, "
            f"{len(split.test_labels_N):,} test",
            data_fingerprint=split.fingerprint,
            hardware="; ".join(places),
            harness=next((t.environment.harness for t in trials), ""),
            commit=", ".join(commits),
        )

    def command(self, profile: str) -> str:
        """Return the command that runs this study under a profile."""
        return f"harness ablate --study {self.study.name} --profile {profile}"

    def next_command(self) -> str:
        """Return the command for the next size up, and what it would cost here; empty at the largest."""
        from harness.console import duration
        from harness.train import data
        from harness.train.timing import extrapolate, has_gpu

        if self.study.profile not in PROFILES[:-1]:
            return ""
        profile = PROFILES[PROFILES.index(self.study.profile) + 1]
        try:
            study = load_study(self.study.name).under(profile)
        except Exception:  # noqa: BLE001 - a study built in a program has no file to look up
            return ""
        planned = arms(study)
        recipe = planned[0].recipe
        info = next((one for one in data.describe() if one.name == recipe.data.name), None)
        if info is None:
            return self.command(profile)
        rate = self.layout.timing.mflops_per_second * self.layout.workers
        each = extrapolate(recipe, info.shape_CHW, info.classes, info.images - 10_000, rate)
        cost = f"about {duration(each * len(cells(study, '')))} on this machine, guessed from counted operations"
        if profile == "full" and not has_gpu():
            cost += "; meant for a GPU"
        if not info.present:
            cost += f"; first: {info.how}"
        return f"{self.command(profile)}   # {cost}"

    def _outcome(self, ledger: Ledger, facts: PlanFacts, written: Written, result: LaunchResult | None) -> Outcome:
        counts = ledger.counts()
        failures = [f"{self.arms_of(t)} seed {t.seed}: {t.error}" for t in ledger.trials() if t.state == "failed"]
        left = counts.open > 0
        interrupted = bool(result and result.interrupted)
        return Outcome(
            study=self.study.name,
            profile=self.study.profile,
            plan=facts,
            answer=written.answer,
            report=written.index,
            counts={name: getattr(counts, name) for name in counts.__slots__},
            interrupted=interrupted and left,
            out_of_time=left and not interrupted,
            failures=failures,
            next_command=self.next_command(),
        )

    def arms_of(self, trial: Trial) -> str:
        """Return the names of the arms that a trial belongs to."""
        return ", ".join(arm.name for arm in self.arms if arm.recipe == trial.recipe) or trial.recipe_id


class _Watch:
    """Follows the workers: tells of each finished trial and draws the provisional report after each block of seeds."""

    def __init__(self, job: _Job, ledger: Ledger, on_event: OnEvent) -> None:
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
        return ProgressFacts(self.title, len(self.trials), len(self.job.cells), self.job.before, self._means(), line)

    def _line(self, trial: Trial) -> str:
        arm = self.job.arms_of(trial)
        if trial.state != "complete":
            return f"{arm} seed {trial.seed}: {trial.state} after {_count(trial.epochs, 'epoch')}. {trial.error}".rstrip()
        m = trial.metrics
        return (
            f"{arm} seed {trial.seed}: val {100 * m['accuracy']:.1f} %, train {100 * m['train_accuracy']:.1f} %, "
            f"gap {100 * m['gap']:.1f} pp, {trial.train_seconds + trial.eval_seconds:.1f} s"
        )

    def _means(self) -> str:
        """The baseline's running mean, for the bar."""
        baseline = self.job.arms[0]
        done = [t for t in self.trials.values() if t.recipe == baseline.recipe and t.state == "complete"]
        if not done:
            return ""
        accuracy = sum(t.metrics["accuracy"] for t in done) / len(done)
        gap = sum(t.metrics["gap"] for t in done) / len(done)
        return f"{baseline.name}: val {100 * accuracy:.1f} %, gap {100 * gap:.1f} pp (mean, n = {len(done)})"

    def _blocks(self) -> int:
        seeds: dict[int, bool] = {}
        for cell in self.job.cells:
            seeds[cell.seed] = seeds.get(cell.seed, True) and cell.key in self.trials
        return sum(seeds.values())

    def _report(self) -> None:
        blocks = self._blocks()
        last = len(self.trials) == len(self.job.cells)
        due = self.job.reported == 0 or time.monotonic() - self.job.reported > REPORT_SECONDS
        if blocks <= self.blocks or last or not due:
            return
        first = self.job.reported == 0
        with contextlib.suppress(FileNotFoundError):  # a trial's artifact may be replaced while it is read
            written = self.job.report(self.ledger, incomplete=True, provisional=True)
            if first:
                self.on_event(f"provisional report: {written.index}")
        self.blocks, self.job.reported = blocks, time.monotonic()


def _count(number: int, word: str, plural: str = "") -> str:
    return f"{number:,} {word if number == 1 else plural or word + 's'}"
