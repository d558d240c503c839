"""Planning: what is wanted, what of it is there, and what therefore waits. All of it under the planner lock."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from optuna.trial import TrialState

from harness.errors import StorageError
from harness.ledger.adoption import Offer
from harness.ledger.book import Book
from harness.ledger.leases import UNLEASED_SECONDS, Leases
from harness.ledger.plan_document import Document, Plan, Planned
from harness.ledger.records import TrialRecorder
from harness.ledger.rows import (
    ACTIVE,
    FINAL,
    UNCOUNTED,
    artifact_of,
    attrs_of,
    cause_of,
    key_of,
    lease_of,
)
from harness.ledger.shards import ShardLedgers
from harness.study.trial import Cell

QUEUE = 200  # cells enqueued ahead in a journal
DATABASE_QUEUE = 40  # and in a database, which reads all of them at every claim: 1,000 cost 151 ms
# a planner that enqueues is done within this; one that holds the lock longer is at work
PATIENCE_SECONDS = 10.0


class Planner:
    """Plans a study and keeps its queue filled."""

    def __init__(
        self, book: Book, leases: Leases, recorder: TrialRecorder, shards: ShardLedgers
    ) -> None:
        self._book, self._leases, self._recorder, self._shards = book, leases, recorder, shards

    def plan(
        self, plan: Plan, cells: Sequence[Cell], adopt: Iterable[Offer], *, retry_failed: bool
    ) -> Planned:
        """As ``Ledger.plan``."""
        wanted = {cell.key: cell for cell in cells}
        with self._book.planning(timeout=PATIENCE_SECONDS) as got:
            if not got:
                raise StorageError(
                    f"another planner is working on {self._book.name}",
                    "wait for it, or stop it with Ctrl-C",
                )
            # a worker killed a moment ago would still count as running
            self._settle(plan)
            self._shards.absorb(self._book)
            old = self._book.document()
            running = self._refuse_strangers(plan, wanted, old)
            document = Document(
                plan=plan,
                cells=wanted,
                serial=(old.serial if old else 0) + (0 if running and not retry_failed else 1),
                retry_serial=old.retry_serial if old else 0,
                void=(old.void if old else frozenset()) | self._without_artifact(wanted),
                history=old.amended(plan, claimed=self._claimed()) if old else [],
            )
            if retry_failed:
                document.retry_serial = document.serial

            rows = self._book.deciding(document)
            kept = {key for key, row in rows.items() if row.state not in ACTIVE}
            busy = {key for key, row in rows.items() if row.state == TrialState.RUNNING}
            adopted = self._adopt(wanted.keys() - kept - busy, adopt, plan.study.metric)
            document.todo = tuple(key for key in wanted if key not in kept and key not in adopted)

            # Written before anything is withdrawn or enqueued: a kill in between leaves a plan that
            # the next planner, or any worker, goes on from.
            self._book.write(document)
            dropped = self._withdraw(wanted.keys(), wanted.keys() - kept - adopted)
            self._enqueue(document)
        return Planned(
            len(wanted), len(wanted) - len(kept) - len(adopted), len(kept), len(adopted), dropped
        )

    def absorb(self) -> int:
        """Take over what shards have finished; return how many trials."""
        with self._book.planning(timeout=PATIENCE_SECONDS) as got:
            count = self._shards.absorb(self._book) if got else 0
            document = self._book.document() if count else None
            if document is not None:
                final = {
                    key
                    for key, row in self._book.deciding(document).items()
                    if row.state.is_finished()
                }
                self._withdraw(document.cells, document.cells.keys() - final)
        return count

    def refill(self) -> int:
        """Enqueue what is planned and neither final nor queued; return how many. Left to others while a planner works."""
        with self._book.planning(timeout=5.0) as got:
            document = self._book.document() if got else None
            return self._enqueue(document) if document else 0

    def _settle(self, plan: Plan) -> None:
        """Reap, and wait the few seconds that show whether a claim without a lease was killed right after it."""
        end = time.monotonic() + min(UNLEASED_SECONDS, plan.grace_seconds) + 2.0
        while True:
            self._leases.reap()
            if (
                all(lease_of(row) for row in self._book.rows(TrialState.RUNNING))
                or time.monotonic() > end
            ):
                return
            time.sleep(0.1)

    def _refuse_strangers(
        self, plan: Plan, wanted: Mapping[str, Cell], old: Document | None
    ) -> int:
        """Return how many cells are running, after making sure that they are of the same plan."""
        grace = (old.plan if old else plan).grace_seconds

        # Trials of two plans side by side could differ in threads, images or code.
        running = [*self._book.rows(TrialState.RUNNING), *self._shards.running(grace).values()]
        if running and (
            old is None or list(old.cells) != list(wanted) or old.plan.rules() != plan.rules()
        ):
            workers = ", ".join(
                sorted({str(lease_of(row).get("worker", "unknown")) for row in running})
            )
            raise StorageError(
                f"an earlier plan of {self._book.name} still has running cells (workers: {workers})",
                f"wait for them, or stop them with Ctrl-C; a worker that was killed on another machine counts as lost after {grace:.0f} s",
            )
        return len(running)

    def _without_artifact(self, wanted: Collection[str]) -> set[int]:
        """Numbers of finished trials of these cells whose artifact is gone: their cells are run again."""
        rows = [
            row for row in self._book.rows(*FINAL) if key_of(row) in wanted and artifact_of(row)
        ]
        return {row.number for row in rows if not self._recorder.artifacts.exists(artifact_of(row))}

    def _claimed(self) -> bool:
        return any("lease" in row.user_attrs for row in self._book.rows())

    def _adopt(self, wanted: Collection[str], offers: Iterable[Offer], metric: str) -> set[str]:
        taken: set[str] = set()
        for trial, curve, outcomes in offers:
            if trial.cell in wanted and trial.cell not in taken:
                whole = trial.model_copy(update={"curve": curve}) if len(curve) else trial
                if self._recorder.add(whole, outcomes, metric):
                    taken.add(trial.cell)
        return taken

    def _withdraw(self, planned: Collection[str], wanted: Collection[str]) -> int:
        """Finish waiting trials of cells that need not be run; return how many were of cells that the plan has dropped."""
        dropped = 0
        for row in self._book.rows(TrialState.WAITING):
            if key_of(row) not in wanted and self._book.take(row.number):
                dropped += (
                    self._book.fail(row.number, cause="withdrawn") and key_of(row) not in planned
                )
        return dropped

    def _enqueue(self, document: Document) -> int:
        """Enqueue missing cells in order, up to a queue's length, and any whose place is before those; return how many."""
        rows = self._book.deciding(document)
        waiting = [
            document.order[key] for key, row in rows.items() if row.state == TrialState.WAITING
        ]

        # No longer queue than workers take for a while: a database goes through all of it at every
        # claim. What comes before the last one waiting is added whatever its length, so that a new
        # plan's order holds at once.
        room, last = (
            (QUEUE if self._book.one_host else DATABASE_QUEUE) - len(waiting),
            max(waiting, default=-1),
        )
        missing = [
            (index, cell)
            for index, (key, cell) in enumerate(document.cells.items())
            if key not in rows
        ]
        chosen = [
            cell for place, (index, cell) in enumerate(missing) if place < room or index < last
        ]
        # going through all attempts is slow, and a refill often finds nothing to add
        tried = self._tried() if chosen else {}
        for cell in chosen:
            attrs = {
                **attrs_of(cell),
                "attempt": tried.get(cell.key, 0) + 1,
                "serial": document.serial,
            }
            self._book.study.enqueue_trial({}, user_attrs=attrs)
        return len(chosen)

    def _tried(self) -> dict[str, int]:
        """How many attempts that count each cell has had."""
        tried: dict[str, int] = {}
        for row in self._book.rows():
            if row.state not in ACTIVE and cause_of(row) not in UNCOUNTED:
                tried[key_of(row)] = tried.get(key_of(row), 0) + 1
        return tried
