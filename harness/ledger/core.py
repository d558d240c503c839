"""The ledger itself: plan, claim, report, record, release, reap, and what can be read from it.

One Optuna study a ledger; one Optuna trial an attempt at a cell. The *plan* (a JSON text on the
Optuna study) lists the cells that are wanted, in order. The queue is worked out from it: a planned
cell that has neither a final trial nor one that runs or waits is enqueued by whoever finds the
queue short, under the planner lock. So nothing is lost between two steps, wherever a kill falls,
and there is no second record that could disagree with the plan.

What the state of an attempt means here:

    WAITING, RUNNING   as Optuna has it; RUNNING carries a lease (who runs it, and a counter that grows while it lives)
    COMPLETE           the trial ran to its end; its value is the validation accuracy, never the test accuracy
    PRUNED             stopped on purpose, ``pruned`` or ``diverged``; final, not retried
    FAIL               cause ``code``: the runner raised; final until asked for again
                       cause ``infrastructure``: killed, out of memory, disk; run again, up to ``Plan.retries`` times a plan
                       cause ``handed back`` or ``withdrawn``: says nothing about the cell and does not count

A cell is recorded once because every change of state is a compare-and-set in the storage: a worker
that was given up and comes back finds its trial finished, and what it brings is dropped.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Self

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.errors import ReportError, StorageError
from harness.ledger.adoption import Offer, read_artifact
from harness.ledger.artifacts import ArtifactFolder
from harness.ledger.book import Book, open_book
from harness.ledger.leases import Leases
from harness.ledger.plan_document import (
    Attempt,
    Claim,
    Counts,
    Document,
    Plan,
    Planned,
    Standing,
    declared,
)
from harness.ledger.planner import Planner
from harness.ledger.records import TrialRecorder
from harness.ledger.rows import (
    ACTIVE,
    artifact_of,
    attempt_of,
    cause_of,
    key_of,
    standing_of,
    trial_of,
)
from harness.ledger.shards import ShardLedgers
from harness.ledger.stopping import reported
from harness.study.trial import Cell, Curve, Outcomes, Trial

# waiting cells that are remembered; others may take them meanwhile, which a claim finds out cheaply
_AHEAD = 50
_UNPLANNED = "run `harness ablate` to plan it"


class Ledger:
    """A study's plan and trials in a storage. One a process; safe to use from several threads.

    Made by ``Ledger.open``; close it, or use it as a context manager.

    Attributes:
        name: the study's folder name.
        where: the storage, without a password.
        artifacts: the store of curves and per-image outcomes.
    """

    def __init__(self, book: Book, artifacts: ArtifactFolder, shards: ShardLedgers) -> None:
        self.name = book.name
        self.where = book.opened.label
        self.artifacts = artifacts
        self._book = book
        self._leases = Leases(book)
        self._recorder = TrialRecorder(book, artifacts)
        self._planner = Planner(book, self._leases, self._recorder, shards)
        self._shards = shards
        self._artifacts: dict[str, str] = {}
        self._read: dict[tuple[str, tuple[int, int]], tuple[Curve, Outcomes | None]] = {}
        self._mutex = threading.Lock()
        # for this plan, the next at the end
        self._waiting: tuple[Document | None, list[FrozenTrial]] = (None, [])
        self._parsed: dict[int, Trial] = {}

    @classmethod
    def open(
        cls,
        name: str,
        *,
        storage: str | None = None,
        artifacts: str | None = None,
        runs: Path = Path("runs"),
        create: bool = True,
    ) -> Self:
        """Open the ledger of a study.

        Args:
            name: the study's folder name, as ``augmentations-quick``.
            storage: path of a journal or ``postgresql+psycopg://...``; None for
                ``runs/<name>/journal.log``.
            artifacts: folder for curves and per-image outcomes, remembered with the study; None for
                the remembered one, or ``runs/<name>/artifacts``.
            runs: the folder of all runs.
            create: whether a ledger that is not there is made.

        Raises:
            StorageError: it is missing, does not read, or its storage is of a kind that is
                refused.
        """
        book = open_book(name, storage or runs / name / "journal.log", create=create)
        with book.reachable("opening the study"):
            folder = book.attribute("artifacts") or ""
            if artifacts is not None and str(Path(artifacts).resolve()) != folder:
                folder = str(Path(artifacts).resolve())
                book.set_attribute("artifacts", folder)
        ledger = cls(
            book,
            ArtifactFolder(Path(folder) if folder else runs / name / "artifacts"),
            _shards(book, runs),
        )
        # without the right to write, what is there is read
        with suppress(StorageError), book.reachable("reading shards"):
            ledger._planner.absorb()
        return ledger

    @classmethod
    def open_shard(
        cls,
        name: str,
        shard: tuple[int, int],
        *,
        storage: str | None = None,
        runs: Path = Path("runs"),
    ) -> Self:
        """Open a ledger of its own for task I of N, holding its share of the study's plan (``shards``).

        Args:
            name: the study's folder name.
            shard: (I, N), I from 1.
            storage: path of the study's journal; None for ``runs/<name>/journal.log``. It is only
                read.
            runs: the folder of all runs.

        Raises:
            StorageError: there is no such journal, or nothing is planned in it.
        """
        plan = open_book(name, storage or runs / name / "journal.log", create=False, repair=False)
        if plan.opened.journal is None:
            raise StorageError(
                "shards need a journal in a shared folder",
                "on PostgreSQL, start `harness worker` without --shard",
            )
        shards = _shards(plan, runs)
        folder = plan.attribute("artifacts") or ""
        with plan.reachable("making a shard"):
            book = shards.begin(shard, plan)
        nothing = ShardLedgers(name, runs / name / "no-shards")
        return cls(
            book, ArtifactFolder(Path(folder) if folder else runs / name / "artifacts"), nothing
        )

    def close(self) -> None:
        """Stop showing signs of life and let the storage go. Claims still held are left to the reaper."""
        self._leases.close()
        self._book.opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Planning

    def plan(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        *,
        adopt: Iterable[Offer] = (),
        retry_failed: bool = False,
    ) -> Planned:
        """Make ``cells``, in this order, what is wanted; finished ones are kept, whichever plan they were run under.

        Planning again gives attempts lost to the infrastructure a fresh number of retries, and has
        cells whose artifact is gone run again. What is planned already can be planned again while
        workers run.

        Args:
            plan: the study and the rules.
            cells: what is wanted, by ``design.cells``.
            adopt: finished trials from elsewhere; those of cells that are wanted and not final here
                are taken over.
            retry_failed: whether cells that failed by their code are run again.

        Raises:
            StorageError: another planner is at work, or workers run another plan's cells.
        """
        with self._book.reachable("planning"):
            return self._planner.plan(plan, cells, adopt, retry_failed=retry_failed)

    def latest_plan(self) -> Plan | None:
        """Return the plan that counts; None before the first.

        Raises:
            StorageError: it was made by a version of harness whose results differ.
        """
        document = self._book.document()
        return document.plan if document else None

    def cells(self) -> tuple[Cell, ...]:
        """Return the cells of the current plan, in order."""
        document = self._book.document()
        return tuple(document.cells.values()) if document else ()

    def amendments(self) -> tuple[str, ...]:
        """Return what was changed after the first cell had been claimed, by the names that ``declared`` gives the rules.

        A plan of an earlier version says nothing of rules that came later: those count as unchanged.
        """
        document = self._book.document()
        if document is None:
            return ()
        history = [*document.history, {"rules": declared(document.plan)}]
        changed = []
        for before, after in pairwise(history):
            if before["claimed"]:
                changed += [
                    rule
                    for rule, value in after["rules"].items()
                    if before["rules"].get(rule, value) != value
                ]
        return tuple(dict.fromkeys(changed))

    def match(self, *, data_fingerprint: str, code_fingerprint: str = "") -> None:
        """Check that a worker would run what was planned.

        Raises:
            StorageError: its images or its plug-ins are not those of the plan, or there is no plan.
        """
        plan = self.latest_plan()
        if plan is None:
            raise StorageError(f"nothing is planned for {self.name}", _UNPLANNED)
        if plan.data_fingerprint != data_fingerprint:
            raise StorageError(
                f"the images here ({data_fingerprint}) differ from the plan's ({plan.data_fingerprint})",
                "run `harness data verify` to see what is here; HARNESS_DATA names the folder",
            )
        if plan.code_fingerprint != code_fingerprint:
            raise StorageError(
                f"the plug-in code here ({code_fingerprint}) differs from the plan's ({plan.code_fingerprint})",
                "copy the planner's version of the files that the study names, or plan again",
            )

    # Working

    def claim(self, worker: str) -> Claim | None:
        """Take the next waiting cell, in the plan's order; None when none waits now (``unfinished`` says whether one may yet).

        Raises:
            StorageError: nothing is planned, or the storage does not answer.
        """
        with self._book.reachable("claiming a cell"):
            document = self._book.document()
            if document is None:
                raise StorageError(f"nothing is planned for {self.name}", _UNPLANNED)
            # what is remembered first, then what the storage lists, then once more after adding to
            # the queue
            for known in (True, False, False):
                if not known:
                    self._look(document)
                while (row := self._next(document)) is not None:
                    claim = self._leases.take(row, worker, document)
                    if claim is not None:
                        return claim
                if not known and not self._refill():
                    break
        return None

    def report(self, claim: Claim, epoch: int, values: Mapping[str, float]) -> bool:
        """Note an epoch (from 0) of a claimed trial; return whether the trial should stop.

        It should when it is hopeless (``pruning.Hopeless``), or when the claim was lost because
        this worker was taken for dead. Only ``values["val_accuracy"]`` is stored, of at most about
        20 epochs.
        """
        held = self._leases.get(claim)
        if held is None:
            return True

        # a runner of one's own may report none: nothing says then that its net is hopeless
        if "val_accuracy" not in values:
            return False

        # About 20 epochs are stored of a trial, but every one that is not a number: a diverged net
        # is to be seen at once.
        value = float(values["val_accuracy"])
        if not reported(epoch, claim.cell.recipe.train.epochs) and not math.isnan(value):
            return False
        try:
            with self._book.reachable("reporting an epoch"):
                held.trial.report(value, epoch)
        except UpdateFinishedTrialError:
            held.lost = True
            return True
        return held.trial.should_prune()

    def record(self, claim: Claim, trial: Trial, outcomes: Outcomes | None) -> Trial | None:
        """Record what came of a claim: artifact first, then the trial, then its state.

        Returns:
            the trial as recorded (one that is complete without a finite number to judge it by has
            failed); None if it came late, because this worker had been taken for dead, and was
            dropped.

        Raises:
            StorageError: the artifact or the record could not be written; the cell stays open and
                is run again.
        """
        try:
            if self._leases.get(claim) is None:
                return None
            # said by the ledger and not by the runner, which may be the user's
            trial = trial.model_copy(update={"attempt": claim.attempt, "worker": claim.worker})
            with self._book.reachable(f"recording trial {claim.number}"):
                recorded = self._recorder.record(claim.number, trial, outcomes)
        except StorageError as error:
            with suppress(StorageError), self._book.reachable(""):
                self._book.fail(claim.number, cause="infrastructure", error=error.message)
            raise
        finally:
            self._leases.drop(claim)
        if recorded is not None and recorded.cause == "infrastructure":
            self._refill()
        return recorded

    def release(self, claim: Claim) -> None:
        """Hand a cell back: it waits again at once, and the attempt does not count.

        Raises:
            StorageError: the storage does not answer; the reaper will find the cell.
        """
        held = self._leases.get(claim)
        self._leases.drop(claim)
        with self._book.reachable("handing a cell back"):
            if held is not None and self._book.fail(claim.number, cause="handed back"):
                self._refill()

    def reap(self) -> int:
        """Give up trials whose worker is dead, or has shown no sign of life for the grace period; return how many.

        A worker of this machine is known to be dead as soon as it is. Of others only the lease is
        watched, on this process's own clock: clocks need not agree, and time in which this process
        itself was stopped is not held against them.

        Raises:
            StorageError: the storage does not answer.
        """
        with self._book.reachable("looking for lost trials"):
            reaped = self._leases.reap()
            if reaped:
                self._refill()
        return reaped

    def absorb(self) -> int:
        """Take over what shard tasks have finished since this was opened; return how many trials.

        Raises:
            StorageError: the storage does not answer.
        """
        with self._book.reachable("reading shards"):
            return self._planner.absorb()

    def _look(self, document: Document) -> None:
        """See what waits: not at every claim, because that means going through all trials."""
        rows = [row for row in self._book.rows(TrialState.WAITING) if key_of(row) in document.order]
        rows.sort(key=lambda row: document.order[key_of(row)])
        with self._mutex:
            self._waiting = (document, rows[:_AHEAD][::-1])

    def _next(self, document: Document) -> FrozenTrial | None:
        with self._mutex:
            seen, rows = self._waiting
            return rows.pop() if rows and seen is document else None

    def _refill(self) -> int:
        count = self._planner.refill()
        if count:
            with self._mutex:
                self._waiting = (None, [])  # what was added may come first
        return count

    # Reading

    @property
    def many_hosts(self) -> bool:
        """Whether workers of several machines can share the storage."""
        return not self._book.one_host

    def counts(self) -> Counts:
        """Return how many cells of the current plan are in which state."""
        found = Counter(standing.state for standing in self.standings())
        return Counts(
            waiting=found["waiting"],
            running=found["running"],
            complete=found["complete"],
            failed=found["failed"],
            pruned=found["pruned"],
            diverged=found["diverged"],
            total=found.total(),
        )

    def unfinished(self) -> int:
        """Return how many planned cells are not final. While this is not 0, what other workers run may come back."""
        return self.counts().open

    def standings(self) -> list[Standing]:
        """Return the state of each cell of the current plan, in order."""
        with self._book.reachable("reading the trials"):
            document = self._book.document()
            if document is None:
                return []
            found = self._book.deciding(document)
            # A task on another node runs in its own journal; here its cell still waits.
            for key, row in self._shards.running(document.plan.grace_seconds).items():
                if key not in found or found[key].state == TrialState.WAITING:
                    found[key] = row
            return [standing_of(cell, found.get(key)) for key, cell in document.cells.items()]

    def trials(self) -> list[Trial]:
        """Return the final record of every planned cell that has one, in the plan's order, without curves."""
        with self._book.reachable("reading the trials"):
            document = self._book.document()
            if document is None:
                return []
            found = self._book.deciding(document)
        final = [
            found[key] for key in document.cells if key in found and found[key].state not in ACTIVE
        ]
        for row in final:
            if row.number not in self._parsed:
                self._parsed[row.number] = trial_of(row)
            self._artifacts[key_of(row)] = artifact_of(row)
        return [self._parsed[row.number] for row in final]

    def attempts(self) -> list[Attempt]:
        """Return every attempt at any cell of any plan, by number; also lost, failed and handed-back ones."""
        with self._book.reachable("reading the trials"):
            rows = [
                row for row in self._book.rows() if key_of(row) and row.state != TrialState.WAITING
            ]
            return [attempt_of(row) for row in rows if cause_of(row) != "withdrawn"]

    def artifact(self, trial: Trial) -> tuple[Curve, Outcomes | None]:
        """Return the epoch curve and per-image outcomes of one of ``trials()``.

        Raises:
            ReportError: the artifact is missing or damaged.
        """
        if trial.cell not in self._artifacts:
            self.trials()
        name = self._artifacts.get(trial.cell, "")
        try:
            # A provisional report is made many times; what an unchanged file holds is read once.
            mark = (name, self.artifacts.stamp(name) if name else (0, 0))
            if mark not in self._read:
                self._read[mark] = read_artifact(self.artifacts, name)
            return self._read[mark]
        except (OSError, ArtifactNotFound) as error:
            raise ReportError(
                f"the curve of trial {trial.cell} is lost: {error}",
                "run the study again to make it again",
            ) from None


def _shards(book: Book, runs: Path) -> ShardLedgers:
    journal = book.opened.journal
    return ShardLedgers(book.name, (journal.parent if journal else runs / book.name) / "shards")
