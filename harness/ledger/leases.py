"""Liveness: the claims that this process holds, how it shows that it lives, and how it finds out that others do not.

A lease is (worker, counter) on the running trial. It says nothing about clocks: whoever reaps
measures on its own monotonic clock for how long a lease has not changed. A process of this machine
that is gone is known at once.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.ledger.book import Book
from harness.ledger.owner import Owner, current_owner
from harness.ledger.plan_document import Claim, Document
from harness.ledger.rows import key_of, lease_of

UNLEASED_SECONDS = 5.0  # a claim is followed by its lease within milliseconds


@dataclass(slots=True)
class Held:
    """A claim that this process holds; ``lost`` once somebody took this worker for dead."""

    claim: Claim
    trial: optuna.Trial
    lease: dict[str, Any]
    lost: bool = False


class Leases:
    """The claims of one process, kept alive by a thread that also reaps.

    Args:
        book: the study.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._held: dict[int, Held] = {}
        # number: (lease, seconds unchanged, time of the last look)
        self._seen: dict[int, tuple[str, float, float]] = {}
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def take(self, row: FrozenTrial, worker: str, document: Document) -> Claim | None:
        """Claim a waiting trial; None if somebody else was first."""
        lease = {"worker": worker, "beat": 0, **current_owner().as_dict()}
        # it may have been queued by an earlier plan, and counts for the one that it runs under
        moved = row.user_attrs.get("serial") != document.serial
        serial = {"serial": document.serial} if moved else {}
        if not self._book.take(row.number) or not self._book.note(
            row.number, lease=lease, **serial
        ):
            return None
        claim = Claim(
            document.cells[key_of(row)], row.number, worker, int(row.user_attrs.get("attempt", 1))
        )

        # The thread is started with the first claim: a process that only plans or reads needs none.
        held = Held(claim, self._book.open_trial(row.number), lease)
        with self._mutex:
            self._held[row.number] = held
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._live, name="harness-lease", daemon=True
                )
                self._thread.start()
        return claim

    def get(self, claim: Claim) -> Held | None:
        """Return a claim that is held and not lost."""
        held = self._held.get(claim.number)
        return None if held is None or held.lost else held

    def drop(self, claim: Claim) -> None:
        """Hold a claim no longer."""
        with self._mutex:
            self._held.pop(claim.number, None)

    def reap(self) -> int:
        """Fail running trials whose worker is dead or has shown no sign of life for the grace period; return how many."""
        document = self._book.document()
        grace = document.plan.grace_seconds if document else 60.0
        reaped = 0
        for row in self._book.rows(TrialState.RUNNING):
            why = "" if row.number in self._held or not key_of(row) else self._given_up(row, grace)
            if why:
                reaped += self._book.fail(row.number, cause="infrastructure", error=why)
        return reaped

    def close(self) -> None:
        """Stop showing signs of life."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _given_up(self, row: FrozenTrial, grace: float) -> str:
        """Say why the worker of a running trial is given up; nothing while it is not."""
        lease = lease_of(row)
        worker, owner = lease.get("worker", ""), Owner.of(lease)
        # no clock is needed where the process can be looked up
        if owner is not None and owner.gone(one_host=self._book.one_host):
            return f"worker {worker} died"
        # whoever claims writes its lease at once, unless it is killed in between
        limit = grace if owner is not None else min(grace, UNLEASED_SECONDS)
        now, mark = time.monotonic(), json.dumps(lease, sort_keys=True)
        with self._mutex:
            before, unchanged, looked = self._seen.get(row.number, ("", 0.0, now))
            # A long gap between two looks means that this process was stopped, and perhaps all
            # were: it counts as a short one.
            unchanged = (
                unchanged + min(now - looked, max(limit / 4, 0.5)) if before == mark else 0.0
            )
            self._seen[row.number] = (mark, unchanged, now)
        if unchanged <= limit:
            return ""
        return (
            f"worker {worker} showed no sign of life for {unchanged:.0f} s"
            if worker
            else "its worker died while claiming it"
        )

    def _live(self) -> None:
        while not self._closing.wait(self._beat_seconds()):
            for held in list(self._held.values()):
                # disk full or database away: the next beat may get through
                with suppress(Exception):
                    lease = {**held.lease, "beat": held.lease["beat"] + 1}
                    held.lost = held.lost or not self._book.note(held.claim.number, lease=lease)
                    held.lease = lease
            with suppress(Exception):  # the same; and any other worker may reap
                self.reap()

    def _beat_seconds(self) -> float:
        with suppress(Exception):
            document = self._book.document()
            return document.plan.beat_seconds if document else 10.0
        return 10.0
