"""ShardLedgers: many tasks on one plan without a server.

Task I of N works off its share of what the plan left to do in a journal of its own, in the folder
``shards`` next to the study's journal: one writer a file, so that no lock has to cross a network
file system. What such journals hold is taken over into the study's own by whoever opens it next to
plan, to report or to look. A task that was killed or sent again writes another file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.errors import StorageError, UsageError
from harness.ledger.book import Book, open_book
from harness.ledger.owner import Owner, current_owner
from harness.ledger.plan_document import Document
from harness.ledger.rows import FINAL, UNCOUNTED, cause_of, deciding, key_of, lease_of
from harness.study.trial import Cell

_ENVIRONMENT = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


def parse_shard(text: str) -> tuple[int, int]:
    """Return (I, N) of ``I/N``, where I runs from 1 to N.

    Raises:
        UsageError: it is not of that form.
    """
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UsageError(
        f"--shard {text!r} should have the form I/N",
        "for example --shard 3/50, where I runs from 1 to N",
    )


def shard_of_environment(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return (I, N) of a task of a SLURM job array; None outside of one."""
    values = [environment.get(name, "") for name in _ENVIRONMENT]
    if not all(value.isdecimal() for value in values):
        return None
    task, lowest, count = map(int, values)
    return task - lowest + 1, count


class ShardLedgers:
    """The journals of the tasks of a study.

    Args:
        name: the study's.
        folder: where they are; need not exist.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._read: dict[Path, tuple[int, list[FrozenTrial]]] = {}

    def journals(self, shard: tuple[int, int] | None = None) -> list[Path]:
        """Return the journals, of all tasks or of one."""
        return sorted(
            self._folder.glob("*.log" if shard is None else f"{shard[0]}-of-{shard[1]}-*.log")
        )

    def rows(self, journal: Path) -> list[FrozenTrial]:
        """Return the trials in a journal, reading it only when it has grown; none from one that does not read."""
        size = journal.stat().st_size
        known = self._read.get(journal)
        if known is None or known[0] != size:
            known = (size, [])
            # a task that was killed while making it; its cells are run again
            with suppress(StorageError):
                known = (size, open_book(self._name, journal, create=False, repair=False).rows())
            self._read[journal] = known
        return known[1]

    def absorb(self, book: Book) -> int:
        """Take finished attempts over into the study's own journal, each cell's result once; return how many.

        To be called under the planner lock.
        """
        journals = self.journals()
        if not journals:
            return 0
        present = {str(row.user_attrs["shard"]) for row in book.rows() if "shard" in row.user_attrs}
        document = book.document()
        # a result whose artifact was lost is none: the cell was run again
        void = document.void if document is not None else frozenset()
        final = {key_of(row) for row in book.rows(*FINAL) if row.number not in void}
        count = 0
        for journal in journals:
            for row in self.rows(journal):
                mark = f"{journal.name}#{row.number}"
                if (
                    mark in present
                    or not _counts(row)
                    or (row.state in FINAL and key_of(row) in final)
                ):
                    continue
                value = row.value if row.state == TrialState.COMPLETE else None
                book.study.add_trial(
                    create_trial(
                        state=row.state, value=value, user_attrs={**row.user_attrs, "shard": mark}
                    )
                )
                final |= {key_of(row)} if row.state in FINAL else set()
                count += 1
        return count

    def running(self, grace_seconds: float) -> dict[str, FrozenTrial]:
        """Return the trials that tasks run now, by cell.

        A task is held to be alive unless it is known to be dead, or has written nothing for the
        grace period. That is measured by the file system's own clock, against a file that is
        written now.
        """
        running: dict[str, FrozenTrial] = {}
        now = self._now()
        for journal in self.journals():
            # its task was killed, or its node is gone
            if now - journal.stat().st_mtime > grace_seconds:
                continue
            for row in self.rows(journal):
                owner = Owner.of(lease_of(row))
                if row.state == TrialState.RUNNING and (
                    owner is None or not owner.gone(one_host=False)
                ):
                    running[key_of(row)] = row
        return running

    def begin(self, shard: tuple[int, int], plan: Book) -> Book:
        """Make a journal for a task, with its share of what the plan leaves to do; return it.

        Raises:
            StorageError: nothing is planned.
        """
        document = plan.document()
        if document is None:
            raise StorageError(
                f"nothing is planned for {self._name}", "run `harness ablate` to plan it"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        index, total = shard
        # what the study took over is judged there: the plan knows which artifacts were lost since
        taken = {row.user_attrs.get("shard") for row in plan.rows()}
        earlier = [
            row
            for journal in self.journals(shard)
            for row in self.rows(journal)
            if f"{journal.name}#{row.number}" not in taken
        ]
        # and the numbers that it calls void are those of its own journal
        here = replace(document, void=frozenset())
        rows = [
            *plan.deciding(document).items(),
            *deciding(earlier, document.cells, here).items(),
        ]
        done = {
            key for key, row in rows if row.state.is_finished()
        }  # what waits or runs in an earlier journal was killed there
        share = [key for key in document.todo[index - 1 :: total] if key not in done]
        # A name of its own: a task that SLURM requeues begins another journal, and both are
        # absorbed.
        me = current_owner()
        journal = self._folder / f"{index}-of-{total}-{me.host}-{me.pid}-{time.time_ns():x}.log"
        book = open_book(self._name, journal, create=True, alone=True)
        book.write(_part(document, {key: document.cells[key] for key in share}))
        return book

    def _now(self) -> float:
        probe = self._folder / f".now-{os.getpid()}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def _counts(row: FrozenTrial) -> bool:
    return row.state in FINAL or (row.state == TrialState.FAIL and cause_of(row) not in UNCOUNTED)


def _part(document: Document, cells: dict[str, Cell]) -> Document:
    return Document(
        document.plan,
        cells,
        serial=document.serial,
        retry_serial=document.retry_serial,
        todo=tuple(cells),
    )
