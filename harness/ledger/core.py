"""The ledger itself: plan, claim, report, record, release, reap, and what can be read from it."""

from __future__ import annotations

import io
import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from harness.errors import ReportError, StorageError
from harness.ledger.artifacts import ArtifactFolder
from harness.ledger.book import Book, open_book
from harness.ledger.leases import UNLEASED_SECONDS, Leases
from harness.ledger.owner import current_owner
from harness.ledger.plans import Attempt, Claim, Counts, Document, Plan, Planned, Standing, declared
from harness.ledger.pruning import reported
from harness.ledger.rows import (
    ACTIVE,
    FINAL,
    UNCOUNTED,
    artifact_of,
    attempt_of,
    cause_of,
    key_of,
    lease_of,
    standing_of,
    stored,
    trial_of,
    value_of,
)
from harness.trial import Cell, Curve, Outcomes, Trial, pack_artifact, unpack_artifact

QUEUE = 200  # cells enqueued ahead: plenty for any number of workers, and a database searches slowly through many more
_UNPLANNED = "`harness ablate` plans a study"
Offer = tuple[Trial, Curve, Outcomes | None]


class Ledger:
    """A study's plan and trials in a storage. One a process; safe to use from several threads.

    Made by ``Ledger.open``; close it, or use it as a context manager.

    Attributes:
        name: the study's folder name.
        where: the storage, without a password.
        artifacts: the store of curves and per-image outcomes.
    """

    def __init__(self, book: Book, artifacts: ArtifactFolder) -> None:
        self.name = book.name
        self.where = book.opened.label
        self.artifacts = artifacts
        self._book = book
        self._leases = Leases(book)
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
    ) -> Ledger:
        """Open the ledger of a study.

        Args:
            name: the study's folder name, as ``augmentations-quick``.
            storage: path of a journal or ``postgresql+psycopg://...``; None for ``runs/<name>/journal.log``.
            artifacts: folder for curves and per-image outcomes, remembered with the study; None for the remembered one, or
                ``runs/<name>/artifacts``.
            runs: the folder of all runs.
            create: whether a ledger that is not there is made.

        Raises:
            StorageError: it is not there, cannot be read, or its storage is of a kind that is refused.
        """
        book = open_book(name, storage or runs / name / "journal.log", create=create)
        with book.reachable("opening the study"):
            folder = book.attribute("artifacts") or ""
            if artifacts is not None and str(Path(artifacts).resolve()) != folder:
                folder = str(Path(artifacts).resolve())
                book.set_attribute("artifacts", folder)
        return cls(book, ArtifactFolder(Path(folder) if folder else runs / name / "artifacts"))

    def close(self) -> None:
        """Stop showing signs of life and let the storage go. Claims still held are left to the reaper."""
        self._leases.close()
        self._book.opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Planning

    def plan(self, plan: Plan, cells: Sequence[Cell], *, adopt: Iterable[Offer] = (), retry_failed: bool = False) -> Planned:
        """Make ``cells``, in this order, what is wanted; finished ones are kept, whichever plan they were run under.

        Planning again gives attempts lost to the infrastructure a fresh number of retries, and has cells whose artifact is gone
        run again. What is planned already can be planned again while workers run.

        Args:
            plan: the study and the rules.
            cells: what is wanted, by ``design.cells``.
            adopt: finished trials from elsewhere; those of cells that are wanted and not final here are taken over.
            retry_failed: whether cells that failed by their code are run again.

        Raises:
            StorageError: another planner is at work, or workers run another plan's cells.
        """
        wanted = {cell.key: cell for cell in cells}
        with self._book.reachable("planning"), self._book.planning(timeout=10.0) as got:
            if not got:
                raise StorageError(f"another planner is at work on {self.name}", "wait for it, or stop it with Ctrl-C")
            self._settle(plan)
            old = self._book.document()
            running = self._refuse_strangers(plan, wanted, old)
            document = Document(
                plan=plan,
                cells=wanted,
                serial=(old.serial if old else 0) + (0 if running else 1),
                retry_serial=old.retry_serial if old else 0,
                void=(old.void if old else frozenset()) | self._without_artifact(wanted),
                history=old.amended(plan, cells, claimed=self._claimed()) if old else [],
            )
            if retry_failed:
                document.serial += bool(running)
                document.retry_serial = document.serial
            self._book.write(document)
            found = self._book.deciding(document)
            kept = {key for key, row in found.items() if row.state not in ACTIVE}
            busy = {key for key, row in found.items() if row.state == TrialState.RUNNING}
            adopted = self._adopt(wanted.keys() - kept - busy, adopt)
            dropped = self._withdraw(wanted.keys(), wanted.keys() - kept - adopted)
            self._enqueue(document)
        return Planned(len(wanted), len(wanted) - len(kept) - len(adopted), len(kept), len(adopted), dropped)

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
        """Return what was changed after the first cell had been claimed: metric, margin_pp, alpha, seeds, looks, arms."""
        document = self._book.document()
        if document is None:
            return ()
        history = [*document.history, {"rules": declared(document.plan, document.cells.values())}]
        changed = []
        for before, after in pairwise(history):
            if before["claimed"]:
                changed += [rule for rule, value in after["rules"].items() if before["rules"].get(rule) != value]
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
                f"the images here ({data_fingerprint}) are not those of the plan ({plan.data_fingerprint})",
                "`harness data verify` says what is here; HARNESS_DATA names the folder",
            )
        if plan.code_fingerprint != code_fingerprint:
            raise StorageError(
                f"the plug-in code here ({code_fingerprint}) is not that of the plan ({plan.code_fingerprint})",
                "bring the planner's version of the files that the study names, or plan again",
            )

    # Working

    def claim(self, worker: str) -> Claim | None:
        """Take the next waiting cell, in the plan's order; None when none waits now (``unfinished`` says whether one may yet).

        Raises:
            StorageError: nothing is planned, or the storage cannot be reached.
        """
        with self._book.reachable("claiming a cell"):
            document = self._book.document()
            if document is None:
                raise StorageError(f"nothing is planned for {self.name}", _UNPLANNED)
            for _ in range(2):
                waiting = [row for row in self._book.rows(TrialState.WAITING) if key_of(row) in document.order]
                for row in sorted(waiting, key=lambda row: document.order[key_of(row)]):
                    claim = self._leases.take(row, worker, document)
                    if claim is not None:
                        return claim
                if not self._refill():
                    break
        return None

    def report(self, claim: Claim, epoch: int, values: Mapping[str, float]) -> bool:
        """Note an epoch (from 0) of a claimed trial; return whether the trial should stop.

        It should when it is hopeless (``pruning.Hopeless``), or when the claim was lost because this worker was taken for dead.
        Only ``values["val_accuracy"]`` is stored, of at most about 20 epochs.
        """
        held = self._leases.get(claim)
        if held is None:
            return True
        value = float(values.get("val_accuracy", math.nan))
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
            the trial as recorded (one that is complete without a finite number to judge it by has failed); None if it came
            late, because this worker had been taken for dead, and was dropped.

        Raises:
            StorageError: the artifact or the record could not be written; the cell stays open and is run again.
        """
        held = self._leases.get(claim)
        artifact = ""
        try:
            if held is None:
                return None
            trial, payload, attrs = self._packed(
                trial.model_copy(update={"attempt": claim.attempt, "worker": claim.worker}), outcomes
            )
            with self._book.reachable(f"recording trial {claim.number}"):
                artifact = self._upload(f"{claim.number:06d}", payload)
                recorded = self._finish(claim.number, trial, {**attrs, "artifact": artifact})
            if not recorded:
                self._discard(artifact)
        except StorageError as error:
            self._discard(artifact)
            with suppress(StorageError), self._book.reachable(""):
                self._book.fail(claim.number, cause="infrastructure", error=error.message)
            raise
        finally:
            self._leases.drop(claim)
        if trial.cause == "infrastructure":
            self._refill()
        return trial if recorded else None

    def release(self, claim: Claim) -> None:
        """Hand a cell back: it waits again at once, and the attempt does not count.

        Raises:
            StorageError: the storage cannot be reached; the reaper will find the cell.
        """
        held = self._leases.get(claim)
        self._leases.drop(claim)
        with self._book.reachable("handing a cell back"):
            if held is not None and self._book.fail(claim.number, cause="handed back"):
                self._refill()

    def reap(self) -> int:
        """Give up trials whose worker is dead, or has shown no sign of life for the grace period; return how many.

        A worker of this machine is known to be dead as soon as it is. Of others only the lease is watched, on this process's
        own clock: clocks need not agree, and time in which this process itself was stopped is not held against them.

        Raises:
            StorageError: the storage cannot be reached.
        """
        with self._book.reachable("looking for lost trials"):
            reaped = self._leases.reap()
            if reaped:
                self._refill()
        return reaped

    # Reading

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
        """Return where each cell of the current plan stands, in order."""
        with self._book.reachable("reading the trials"):
            document = self._book.document()
            if document is None:
                return []
            found = self._book.deciding(document)
            return [standing_of(cell, found.get(key)) for key, cell in document.cells.items()]

    def trials(self) -> list[Trial]:
        """Return the final record of every planned cell that has one, in the plan's order, without curves."""
        with self._book.reachable("reading the trials"):
            document = self._book.document()
            if document is None:
                return []
            found = self._book.deciding(document)
        final = [found[key] for key in document.cells if key in found and found[key].state not in ACTIVE]
        for row in final:
            if row.number not in self._parsed:
                self._parsed[row.number] = trial_of(row)
        return [self._parsed[row.number] for row in final]

    def attempts(self) -> list[Attempt]:
        """Return every attempt at any cell of any plan, by number; also lost, failed and handed-back ones."""
        with self._book.reachable("reading the trials"):
            return [attempt_of(row) for row in self._book.rows() if row.state != TrialState.WAITING and key_of(row)]

    def artifact(self, trial: Trial) -> tuple[Curve, Outcomes | None]:
        """Return the epoch curve and per-image outcomes of one of ``trials()``.

        Raises:
            ReportError: the artifact is missing or damaged.
        """
        document = self._book.document()
        row = self._book.deciding(document).get(trial.cell) if document else None
        name = artifact_of(row) if row is not None else ""
        if not name:
            return Curve(), None
        try:
            with self.artifacts.open_reader(name) as file:
                return unpack_artifact(file.read())
        except (OSError, ArtifactNotFound) as error:
            raise ReportError(
                f"the curve of trial {trial.cell} is lost: {error}", "run the study again to have it made anew"
            ) from None

    # Steps of planning; all but _refill are called under the planner lock

    def _settle(self, plan: Plan) -> None:
        """Reap, and wait the few seconds that show whether a claim without a lease was killed right after it."""
        end = time.monotonic() + min(UNLEASED_SECONDS, plan.grace_seconds) + 2.0
        while True:
            self._leases.reap()
            if all(lease_of(row) for row in self._book.rows(TrialState.RUNNING)) or time.monotonic() > end:
                return
            time.sleep(0.1)

    def _refuse_strangers(self, plan: Plan, wanted: Mapping[str, Cell], old: Document | None) -> int:
        """Return how many cells are running, after making sure that they are of the same plan."""
        running = self._book.rows(TrialState.RUNNING)
        if running and (old is None or list(old.cells) != list(wanted) or old.plan.rules() != plan.rules()):
            workers = ", ".join(sorted({str(lease_of(row).get("worker", "unknown")) for row in running}))
            raise StorageError(
                f"cells of an earlier plan of {self.name} are running (workers: {workers})",
                "wait for them or stop them with Ctrl-C; a worker killed on another machine is given up after "
                f"{(old.plan if old else plan).grace_seconds:.0f} s",
            )
        return len(running)

    def _without_artifact(self, wanted: Collection[str]) -> set[int]:
        rows = [row for row in self._book.rows(*FINAL) if key_of(row) in wanted]
        return {row.number for row in rows if artifact_of(row) and not self.artifacts.exists(artifact_of(row))}

    def _claimed(self) -> bool:
        return any("lease" in row.user_attrs for row in self._book.rows())

    def _adopt(self, wanted: Collection[str], offers: Iterable[Offer]) -> set[str]:
        taken: set[str] = set()
        for trial, curve, outcomes in offers:
            if trial.cell not in wanted or trial.cell in taken or trial.state == "failed":
                continue
            checked, payload, attrs = self._packed(trial.model_copy(update={"curve": curve or trial.curve}), outcomes)
            if checked.state == "failed":
                continue
            attrs = {**_cell_attrs(trial), "state": trial.state, "adopted": True, "trial": attrs}
            attrs["trial"]["artifact"] = self._upload("adopted", payload)
            value = value_of(trial, self._metric()) if trial.state == "complete" else None
            state = TrialState.COMPLETE if trial.state == "complete" else TrialState.PRUNED
            self._book.study.add_trial(create_trial(state=state, value=value, user_attrs=attrs))
            taken.add(trial.cell)
        return taken

    def _withdraw(self, planned: Collection[str], wanted: Collection[str]) -> int:
        """Finish waiting trials of cells that need not be run; return how many were of cells that the plan has dropped."""
        dropped = 0
        for row in self._book.rows(TrialState.WAITING):
            if key_of(row) not in wanted and self._book.take(row.number):
                dropped += self._book.fail(row.number, cause="withdrawn") and key_of(row) not in planned
        return dropped

    def _enqueue(self, document: Document) -> int:
        """Enqueue missing cells in order, up to ``QUEUE`` waiting, and any whose place is before those; return how many."""
        found = self._book.deciding(document)
        waiting = [document.order[key] for key, row in found.items() if row.state == TrialState.WAITING]
        room, last = QUEUE - len(waiting), max(waiting, default=-1)
        missing = [(index, cell) for index, (key, cell) in enumerate(document.cells.items()) if key not in found]
        chosen = [cell for place, (index, cell) in enumerate(missing) if place < room or index < last]
        tried = self._tried() if chosen else {}
        for cell in chosen:
            attrs = {**_cell_attrs(cell), "attempt": tried.get(cell.key, 0) + 1, "serial": document.serial}
            self._book.study.enqueue_trial({}, user_attrs=attrs)
        return len(chosen)

    def _tried(self) -> dict[str, int]:
        tried: dict[str, int] = {}
        for row in self._book.rows():
            if row.state not in ACTIVE and cause_of(row) not in UNCOUNTED:
                tried[key_of(row)] = tried.get(key_of(row), 0) + 1
        return tried

    def _refill(self) -> int:
        """Enqueue what is planned and neither final nor queued; return how many. Left to others while a planner works."""
        with self._book.planning(timeout=5.0) as got:
            document = self._book.document() if got else None
            return self._enqueue(document) if document else 0

    # Steps of recording

    def _metric(self) -> str:
        plan = self.latest_plan()
        return plan.study.metric if plan else "accuracy"

    def _packed(self, trial: Trial, outcomes: Outcomes | None) -> tuple[Trial, bytes, dict[str, Any]]:
        """Return the trial, its artifact and its stored form; a trial that cannot be kept as it is has failed by its code."""
        error = ""
        if trial.state == "complete" and not math.isfinite(value_of(trial, self._metric())):
            error = f"the runner returned no {self._metric()} that is a number"
        try:
            keep = not error and trial.state != "failed" and (len(trial.curve) or outcomes is not None)
            payload = pack_artifact(trial.curve, outcomes) if keep else b""
            attrs = stored(trial, "")
            json.dumps(attrs)
        except (ValueError, TypeError, AttributeError) as fault:
            error, payload = f"what the runner returned cannot be stored: {type(fault).__name__}: {fault}", b""
        if not error:
            return trial, payload, attrs
        failed = trial.model_copy(update={"state": "failed", "cause": "code", "error": error, "metrics": {}, "tuned": {}})
        return failed, b"", stored(failed, "")

    def _upload(self, label: str, payload: bytes) -> str:
        """Write an artifact; return its name, which holds the trial's number, and is of no other trial of any study."""
        if not payload:
            return ""
        name = f"{self.name}-{label}-{time.time_ns():x}-{current_owner().pid:x}.npz"
        self.artifacts.write(name, io.BytesIO(payload))
        return name

    def _finish(self, number: int, trial: Trial, attrs: dict[str, Any]) -> bool:
        if not self._book.note(number, trial=attrs, state=trial.state):
            return False
        if attrs["artifact"]:
            meta = {
                "artifact_id": attrs["artifact"],
                "filename": attrs["artifact"],
                "mimetype": "application/zip",
                "encoding": None,
            }
            with suppress(UpdateFinishedTrialError):
                self._book.attach(number, str(attrs["artifact"]), json.dumps(meta))
        if trial.state == "complete":
            return self._book.finish(number, TrialState.COMPLETE, value_of(trial, self._metric()))
        return self._book.finish(number, TrialState.FAIL if trial.state == "failed" else TrialState.PRUNED)

    def _discard(self, artifact: str) -> None:
        if artifact:
            with suppress(OSError, ArtifactNotFound):
                self.artifacts.remove(artifact)


def _cell_attrs(item: Cell | Trial) -> dict[str, Any]:
    key = item.key if isinstance(item, Cell) else item.cell
    return {"cell": key, "seed": item.seed, "recipe": item.recipe.changed()}


def find_adoptable(cells: Iterable[Cell], runs: Path, *, besides: str = "") -> list[Offer]:
    """Return finished trials of these cells that other studies under ``runs`` hold, one a cell.

    Pruned trials are left out: they were stopped by the rules of their own study, which may be a screening.

    Args:
        cells: what is wanted.
        runs: the folder of all runs; a journal is looked for in each of its folders.
        besides: name of the study not to look in.
    """
    missing = {cell.key for cell in cells}
    found: list[Offer] = []
    for journal in sorted(runs.glob("*/journal.log")):
        if journal.parent.name == besides or not missing:
            continue
        with suppress(StorageError, OSError):  # a journal that cannot be read has nothing to give, and is none of this study's
            content = journal.read_bytes()  # a search through the text is far quicker than reading a journal that has nothing
            if any(key.encode() in content for key in missing):
                offers = _finished_in(journal, missing)
                missing -= {trial.cell for trial, _, _ in offers}
                found += offers
    return found


def _finished_in(journal: Path, wanted: Collection[str]) -> list[Offer]:
    book = open_book(journal.parent.name, journal, create=False, repair=False)
    store = ArtifactFolder(Path(book.attribute("artifacts") or journal.parent / "artifacts"))
    found: dict[str, Offer] = {}
    for row in book.rows(*FINAL):
        if key_of(row) not in wanted or not row.user_attrs.get("trial"):
            continue
        trial, name = trial_of(row), artifact_of(row)
        with suppress(OSError, ArtifactNotFound, ReportError):
            if trial.state != "pruned":
                found[trial.cell] = (trial, *_unpacked(store, name))
    return list(found.values())


def _unpacked(store: ArtifactFolder, name: str) -> tuple[Curve, Outcomes | None]:
    if not name:
        return Curve(), None
    with store.open_reader(name) as file:
        return unpack_artifact(file.read())
