"""The one loop that every run goes through: plan, start the workers, look, report.

A run is a list of phases, each a study in a ledger of its own. ``ablate`` has one; the search of
``tune`` is followed by its confirmation; a study that retunes runs as it is, tries settings, and
runs again. What a phase plans and says is its own (``arms_phase``, ``tune``, ``retune``); the way
through it is here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.commands.facts import OnEvent, PlanFacts, ProgressFacts
from harness.commands.place import RUNS, Place, Places
from harness.study.study import Study
from harness.study.trial import Cell, Trial, curve_images, split_words

if TYPE_CHECKING:
    from harness.errors import HarnessError
    from harness.ledger import Offer, Plan, Planned
    from harness.report import Provenance, Written
    from harness.search import SearchLedger
    from harness.train.parts import Arena
    from harness.train.timing import Layout
    from harness.workers.join import LaunchResult

REPORTS = Path("reports")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a phase ended.

    Attributes:
        facts: its plan, in words for people; None where an earlier phase's covers it.
        counts: cells by state, and their total.
        trials: that are final.
        failures: a sentence for every trial that failed, and for what kept the workers from going on.
        interrupted: whether it was stopped by hand with trials left.
        broken: whether something kept the workers from going on, with trials left.
        written: its report; None where a later phase writes it.
    """

    facts: PlanFacts | None
    counts: Mapping[str, int]
    trials: Sequence[Trial]
    failures: tuple[str, ...]
    interrupted: bool
    broken: bool
    written: Written | None

    @property
    def left(self) -> int:
        """Trials that are not final."""
        return self.counts["waiting"] + self.counts["running"]


@dataclass(slots=True, kw_only=True)
class Phase:
    """One study of a run, under its profile: what it runs on, and its way through the loop.

    Attributes:
        ground: the images; None where a script reads its own.
        layout: devices, workers and threads.
        storage: where the ledger is kept.
        artifacts: folder for curves and per-image outcomes.
        place: what starts the workers.
        code: fingerprint of the plug-ins.
        screen: whether an arm may be stopped for being worse.
        retry_failed: whether cells are run again that failed by their code.
        cells: all that may be run.
        planned: those of them that are planned so far: fewer until the last look.
        before: trials that were final before this run.
        earlier: trials of the phases before this one.
        later: trials that the phases after this one take at most.
    """

    study: Study
    why_profile: str
    ground: Arena | None
    layout: Layout | Places
    storage: str | None
    artifacts: str | None
    place: Place = Place()  # noqa: RUF009 - frozen
    code: str = ""
    screen: bool = False
    retry_failed: bool = False
    cells: tuple[Cell, ...] = ()
    planned: tuple[Cell, ...] = ()
    before: int = 0
    earlier: int = 0
    later: int = 0

    # Whether an error of the launcher counts as a failure, so that the report is written all the
    # same; otherwise it ends the run.
    outlives_errors: ClassVar[bool] = False

    def setting(self) -> dict[str, Any]:
        """Return what another phase of the same run takes over: the way it runs, not what."""
        kept = ("why_profile", "ground", "layout", "storage", "artifacts", "place", "code")
        return {name: getattr(self, name) for name in (*kept, "retry_failed")}

    @property
    def folder(self) -> Path:
        """Where the report lies."""
        return REPORTS / self.study.folder

    @property
    def fingerprint(self) -> str:
        """Of the images; empty where a script reads its own."""
        return self.ground.split.fingerprint if self.ground is not None else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, as far as they are known."""
        return self.ground.split.classes if self.ground is not None else ()

    def image_counts(self) -> dict[str, int]:
        """Images of each part; 0 where a script reads its own."""
        parts = ("train", "val", "test")
        if self.ground is None:
            return dict.fromkeys(parts, 0)
        return {part: len(getattr(self.ground.split, f"{part}_labels_N")) for part in parts}

    # What a phase decides for itself

    def check(self, ledger: SearchLedger) -> None:
        """Check that the ledger holds nothing that this phase cannot go on from."""

    def first_cells(self) -> tuple[Cell, ...]:
        """Return the cells that are planned at the start."""
        return self.cells

    def after_look(self, ledger: SearchLedger) -> tuple[Cell, ...]:  # noqa: ARG002 - for those that look
        """Return the cells that a completed look calls for, beyond those planned; none when all is decided."""
        return ()

    def offers(self, wanted: Sequence[Cell]) -> list[Offer]:  # noqa: ARG002 - for those that adopt
        """Return trials of these cells that are finished elsewhere."""
        return []

    def retries(self, ledger: SearchLedger) -> bool:  # noqa: ARG002 - for those that look at them
        """Return whether failed trials are run again."""
        return self.retry_failed

    def plan_facts(self, ledger: SearchLedger, planned: Planned) -> PlanFacts | None:  # noqa: ARG002
        """Return the plan for people; None where an earlier phase's covers it."""
        return None

    def look_line(self, more: Sequence[Cell]) -> str:
        """Return a line about a look that calls for more cells."""
        raise NotImplementedError

    def line(self, trial: Trial) -> str:
        """Return a line about a trial that has ended."""
        raise NotImplementedError

    def failure(self, trial: Trial) -> str:
        """Return what failed: which trial, and why."""
        raise NotImplementedError

    def note(self, trials: Collection[Trial]) -> str:  # noqa: ARG002 - for those that have one
        """Return what the bar shows next to the count."""
        return ""

    def begin(self, trials: Mapping[str, Trial]) -> None:
        """Take note of the trials that are there when the workers start, by cell."""

    def after_trial(
        self, ledger: SearchLedger, trials: Mapping[str, Trial], on_event: OnEvent
    ) -> None:
        """Do what is done after each trial."""

    def after_workers(self, on_event: OnEvent) -> None:
        """Wait for what is still done when the workers have left."""

    def finish(self, ledger: SearchLedger, on_event: OnEvent) -> Written | None:  # noqa: ARG002
        """Write the report; None where a later phase writes it."""
        return None

    # The loop

    def open(self, *, create: bool = True) -> SearchLedger:
        """Open the ledger, which serves a study without a search as well."""
        from harness.search import SearchLedger

        return SearchLedger.open(
            self.study.folder,
            storage=self.storage,
            artifacts=self.artifacts if create else None,
            runs=RUNS,
            create=create,
        )

    def run(self, deadline: float | None, on_event: OnEvent) -> Ended:
        """Plan, start the workers, look, as long as a look calls for more; then report."""
        facts: PlanFacts | None = None
        result: LaunchResult | None = None

        with self.open() as ledger:
            self.check(ledger)
            more = self.first_cells()
            while more:
                # Only when the first cells are planned: a later look is no reason to run failed
                # trials again.
                retry = not self.planned and self.retries(ledger)
                first, self.planned = not self.planned, (*self.planned, *more)
                planned = ledger.plan(
                    self.plan(), self.planned, adopt=self.offers(self.planned), retry_failed=retry
                )
                self.before = planned.total - planned.new
                if first and (facts := self.plan_facts(ledger, planned)) is not None:
                    on_event(facts)

                if planned.new:
                    result = self.drain(ledger, planned.new, deadline, on_event) or result
                    # stopped, out of time, or on a cluster that goes on alone
                    if ledger.counts().open:
                        break
                if more := self.after_look(ledger):
                    on_event(self.look_line(more))

            if result is not None and result.error is not None and not self.outlives_errors:
                raise result.error
            written = self.finish(ledger, on_event)
            return self._ended(ledger, facts, result, written)

    def plan(self) -> Plan:
        """Return the plan: the study, and all that decides a result or how it is worked out."""
        from harness.ledger import Plan, chance_level

        return Plan(
            study=self.study,
            data_fingerprint=self.fingerprint,
            code_fingerprint=self.code,
            threads=self.layout.threads,
            # which of several GPUs a worker has is its own matter
            device=self.layout.devices[0].partition(":")[0],
            workers=self.layout.workers,
            data_root=self._data_root(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            screen=self.screen,
            # on the images that draw the curve, which are what a pruner sees
            chance=chance_level(len(self.classes), curve_images(**self.image_counts())),
        )

    def _data_root(self) -> str:
        """Where the images lie; empty where a script reads its own."""
        if self.ground is None:
            return ""
        from harness.train import data

        return str(data.data_root())

    def drain(
        self, ledger: SearchLedger, new: int, deadline: float | None, on_event: OnEvent
    ) -> LaunchResult | None:
        """Start the workers and follow them until they leave; None where it is too late to start any.

        Args:
            ledger: planned.
            new: trials to run; no more workers than these are started.
            deadline: on ``time.monotonic()``; after it, no worker would claim anything.
            on_event: given the progress.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice; what is recorded is kept.
        """
        if deadline is not None and time.monotonic() >= deadline:
            return None

        follow = Follower(self, ledger, on_event)
        on_event(follow.progress())
        result = self.place.start(
            self.layout,
            name=self.study.folder,
            storage=self.storage,
            artifacts=self.artifacts,
            runs=RUNS,
            workers=min(self.layout.workers, new),
            deadline=deadline,
            on_event=follow,
        )
        if result.hurried:
            raise KeyboardInterrupt
        self.after_workers(on_event)
        return result

    def _ended(
        self,
        ledger: SearchLedger,
        facts: PlanFacts | None,
        result: LaunchResult | None,
        written: Written | None,
    ) -> Ended:
        counts, trials = ledger.counts(), ledger.trials()
        failures = [self.failure(trial) for trial in trials if trial.state == "failed"]

        # Where everything is final all the same, what stopped a worker does not matter.
        error = result.error if result is not None and counts.open else None
        if error is not None:
            failures.append(self.error_line(error))

        return Ended(
            facts=facts,
            counts={name: getattr(counts, name) for name in counts.__slots__},
            trials=trials,
            failures=tuple(failures),
            interrupted=bool(result and result.interrupted and counts.open),
            broken=error is not None,
            written=written,
        )

    def error_line(self, error: HarnessError) -> str:
        """Return what kept the workers from going on, with its hint."""
        return f"{error.message}\n{error.hint}" if error.hint else error.message

    def provenance(
        self, *commands: str, hardware: str, commit: str, harness: str = "", bench: str = ""
    ) -> Provenance:
        """Return where a report comes from."""
        from harness.report import Provenance

        images = ""
        if self.ground is not None:
            images = split_words(self.study.base_recipe.data.name, **self.image_counts())
        return Provenance(
            commands=commands,
            data=images,
            data_fingerprint=self.fingerprint,
            hardware=hardware,
            harness=harness,
            commit=commit,
            bench=bench,
        )


class Follower:
    """Follows the workers of a phase: a line a trial, counted among all trials of the run."""

    def __init__(self, phase: Phase, ledger: SearchLedger, on_event: OnEvent) -> None:
        self.phase, self.ledger, self.on_event = phase, ledger, on_event
        self.trials = {trial.cell: trial for trial in ledger.trials()}
        phase.begin(self.trials)

    def __call__(self, event: Any) -> None:
        """Take one event of the launcher."""
        from harness.workers.events import Finished, Note

        if isinstance(event, Finished):
            self.trials[event.trial.cell] = event.trial
            self.on_event(self.progress(self.phase.line(event.trial)))
            self.phase.after_trial(self.ledger, self.trials, self.on_event)
        elif isinstance(event, Note):
            self.on_event(event.text)

    def progress(self, line: str = "") -> ProgressFacts:
        """Return how far the run is."""
        phase = self.phase
        return ProgressFacts(
            title=phase.study.folder,
            done=phase.earlier + len(self.trials),
            total=phase.earlier + len(phase.planned) + phase.later,
            before=phase.earlier + phase.before,
            note=phase.note(self.trials.values()),
            line=line,
        )


def run_phases(phases: Iterable[Phase], deadline: float | None, on_event: OnEvent) -> list[Ended]:
    """Run phases one after the other; one that has trials left is the last.

    Args:
        phases: may be a generator: the next is asked for when the one before it has ended.
        deadline: on ``time.monotonic()``.
        on_event: given plan, progress and lines of text.
    """
    ended: list[Ended] = []
    for phase in phases:
        # so that one bar counts all of the run
        phase.earlier = sum(before.counts["total"] for before in ended)
        ended.append(phase.run(deadline, on_event))
        if ended[-1].left:
            break
    return ended


def summed(ended: Sequence[Ended]) -> dict[str, Any]:
    """Return what an ``Outcome`` has from all phases of a run: plan, counts, failures, and why trials are left."""
    counts = {name: sum(part.counts[name] for part in ended) for name in ended[0].counts}
    interrupted = any(part.interrupted for part in ended)
    broken = any(part.broken for part in ended)
    left = bool(ended[-1].left)
    return {
        "plan": ended[0].facts,  # covers the later phases
        "counts": counts,
        "failures": [failure for part in ended for failure in part.failures],
        "interrupted": interrupted,
        "out_of_time": left and not interrupted and not broken,
    }
