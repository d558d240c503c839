"""Faults one by one: stopped processes, torn journals, clocks, disks, planners at once, passwords."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.errors import StorageError
from harness.ledger import Ledger
from harness.workers.join import join
from harness.workers.local import run_local
from tests import light
from tests.faults import tiny

NAME = light.study().folder
LIGHT = str(light.__file__)


@contextlib.contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", text, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], word: str) -> None:
    """Wait until the program has printed a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"the program ended without saying {word}")


def complete_once(runs: Path, cells: int, storage: str | None = None) -> None:
    with Ledger.open(NAME, storage=storage, runs=runs, create=False) as ledger:
        complete = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
        assert ledger.counts().complete == len(complete) == len(set(complete)) == cells


WORKER = """
import sys
from pathlib import Path
from harness.workers.join import join
from tests import light
join(name=light.study().folder, runs=Path(sys.argv[1]), runner="tests.light:" + sys.argv[2], worker=sys.argv[3],
     on_event=lambda event: print(type(event).__name__, flush=True))
print("left", flush=True)
"""


def test_a_worker_stopped_past_its_lease_and_continued_records_nothing_twice(
    tmp_path: Path,
) -> None:
    light.planned(tmp_path, seeds=2, beat_seconds=0.2, grace_seconds=1.5).close()
    with program(WORKER, str(tmp_path), "slow", "sleeper") as sleeper:
        said(sleeper, "Claimed")
        sleeper.send_signal(signal.SIGSTOP)
        join(name=NAME, runs=tmp_path, runner="tests.light:run", on_event=lambda _: None)
        complete_once(tmp_path, 6)
        sleeper.send_signal(signal.SIGCONT)
        said(sleeper, "Note")
        said(sleeper, "left")
    complete_once(tmp_path, 6)


SKEWED = (
    """
import datetime, sys, time
import optuna.storages.journal._storage as storage
hour = float(sys.argv[4])
true = time.time
time.time = lambda: true() + hour
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=hour)
storage.datetime = Clock
"""
    + WORKER
)


def test_clocks_an_hour_apart_have_no_worker_taken_for_dead(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=4, beat_seconds=0.2, grace_seconds=1.5).close()
    with (
        program(SKEWED, str(tmp_path), "slow", "late", "-1800") as late,
        program(SKEWED, str(tmp_path), "slow", "early", "1800") as early,
    ):
        said(late, "left")
        said(early, "left")
    complete_once(tmp_path, 12)
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert len(ledger.attempts()) == 12
        assert {trial.worker for trial in ledger.trials()} == {"late", "early"}


def test_a_journal_cut_at_any_byte_of_its_last_record_is_completed(tmp_path: Path) -> None:
    which = light.study(seeds=1, levels=2)
    with light.planned(tmp_path / "whole", seeds=1, levels=2) as ledger:
        while (claim := ledger.claim("w")) is not None:
            light.complete(ledger, claim)
    content = (tmp_path / "whole" / NAME / "journal.log").read_bytes()
    # The lease is this very process's, which lives: give it to one that is dead, as after a kill.
    content = content.replace(f'"pid":{os.getpid()}'.encode(), b'"pid":4999999')
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for size in range(last, len(content)):
        runs = tmp_path / "cut"
        shutil.rmtree(runs, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", runs)
        (runs / NAME / "journal.log").write_bytes(content[:size])
        with Ledger.open(NAME, runs=runs) as ledger:
            ledger.plan(light.plan_of(which), light.cells_of(which))
            while (claim := ledger.claim("w")) is not None:
                light.complete(ledger, claim)
            attempts = [
                attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"
            ]
            assert len(attempts) == len(set(attempts)) == ledger.counts().complete == 2


@contextlib.contextmanager
def disk_of(mebibytes: int, folder: Path) -> Iterator[Path]:
    """A disk of its own at a folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    with disk_of(1, tmp_path / "disk") as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Leave no room on a disk; return the file to remove for making room again."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)
    return filler


@pytest.mark.parametrize("full", ["artifacts", "journal"])
def test_a_disk_that_is_full_stops_the_run_and_after_making_room_nothing_is_missing(
    tmp_path: Path, small_disk: Path, full: str
) -> None:
    runs = small_disk if full == "journal" else tmp_path / "runs"
    which = light.study(seeds=2)
    with Ledger.open(NAME, runs=runs, artifacts=str(small_disk / "artifacts")) as ledger:
        ledger.plan(light.plan_of(which), light.cells_of(which))
    ledger = Ledger.open(NAME, runs=runs)
    try:
        claim = ledger.claim("w")
        assert claim is not None
        filler = fill(small_disk)
        with pytest.raises(StorageError, match="No space left"):
            light.complete(ledger, claim)
    finally:
        ledger.close()
    assert not list((small_disk / "artifacts").glob("*"))
    filler.unlink()
    with Ledger.open(NAME, runs=runs) as ledger:
        for row in ledger._book.rows():
            # this very process, which lives, holds it: what a kill would end
            if row.state.name == "RUNNING":
                ledger._book.fail(row.number, cause="infrastructure")
        ledger.plan(light.plan_of(which), light.cells_of(which))
        while (claim := ledger.claim("w")) is not None:
            assert light.complete(ledger, claim) is not None
        assert all(len(ledger.artifact(trial)[0]) == light.EPOCHS for trial in ledger.trials())
    complete_once(runs, 6)


@pytest.mark.filterwarnings("default")
def test_a_disk_that_is_full_when_the_report_is_written_costs_neither_trials_nor_the_report_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny.toml").write_text(tiny.STUDY, encoding="utf-8")
    ablate = (*tiny.ABLATE, "--workers", "1", "--set", "train.epochs=2", "--seeds")
    with disk_of(16, tmp_path / "reports") as disk:
        first = tiny.run(tmp_path, *ablate, "2")
        assert first.returncode == 0, first.stderr
        before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
        filler = fill(disk)
        full = tiny.run(tmp_path, *ablate, "3")
        assert full.returncode == 1, full.stderr
        assert full.stdout == ""
        assert "Traceback" not in full.stderr
        assert full.stderr.count("error: ") == 1
        (said,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
        assert said.startswith("error: the trials ran, but their report could not be written: ")
        assert "reports/tiny-quick" in said, said
        assert (
            "hint: make room on that disk, then run `harness report tiny-quick`; your trials are safe"
            in full.stderr
        )
        filler.unlink()
        assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
        again = tiny.run(tmp_path, *tiny.HARNESS, "report", "tiny-quick")
        assert again.returncode == 0, again.stderr
        table: Any = pd.read_parquet(disk / "tiny-quick" / "trials.parquet")
        assert len(table) == table["cell"].nunique() == 2 * 3


ABLATE = """
import sys
from pathlib import Path
from harness.workers.local import run_local
from harness.ledger import Ledger
from harness.errors import StorageError
from tests import light
which = light.study(seeds=int(sys.argv[2]))
try:
    with Ledger.open(which.folder, runs=Path(sys.argv[1])) as ledger:
        ledger.plan(light.plan_of(which), light.cells_of(which))
    print("planned", flush=True)
    run_local(name=which.folder, runs=Path(sys.argv[1]), workers=2, threads=1, runner="tests.light:" + sys.argv[3],
              on_event=lambda _: None)
except StorageError as error:
    print("refused", error, flush=True)
print("done", flush=True)
"""


def test_the_same_study_started_twice_at_once_is_run_once(tmp_path: Path) -> None:
    with (
        program(ABLATE, str(tmp_path), "4", "third") as one,
        program(ABLATE, str(tmp_path), "4", "third") as other,
    ):
        said(one, "done")
        said(other, "done")
    complete_once(tmp_path, 12)


def test_of_two_users_who_plan_different_versions_the_second_is_refused_while_the_first_runs(
    tmp_path: Path,
) -> None:
    with program(ABLATE, str(tmp_path), "6", "endless") as first:
        said(first, "planned")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
                if ledger.counts().running:
                    break
            time.sleep(0.1)
        with program(ABLATE, str(tmp_path), "2", "run") as second:
            assert second.stdout is not None
            assert "still has running cells" in second.stdout.read()
        first.terminate()
        said(first, "done")
    run_local(
        name=NAME,
        runs=tmp_path,
        workers=2,
        threads=1,
        runner=f"{LIGHT}:run",
        on_event=lambda _: None,
    )
    complete_once(tmp_path, 18)


def test_the_whole_program_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    for _ in range(6):
        with program(ABLATE, str(tmp_path), "8", "third") as process:
            said(process, "planned")
            time.sleep(2.5)
            process.kill()
    run_local(
        name=NAME,
        runs=tmp_path,
        workers=2,
        threads=1,
        runner=f"{LIGHT}:run",
        on_event=lambda _: None,
    )
    complete_once(tmp_path, 24)


def test_a_database_password_appears_in_no_error_log_or_record(
    tmp_path: Path, database: str
) -> None:
    wrong = database.replace("s3cret", "wr0ng")
    with pytest.raises(StorageError) as refused:
        Ledger.open(NAME, storage=wrong, runs=tmp_path)
    assert "wr0ng" not in f"{refused.value.message} {refused.value.hint} {refused.value!r}"
    which = light.study()
    with Ledger.open(NAME, storage=database, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which), light.cells_of(which))
        assert "s3cret" not in ledger.where
    events: list[str] = []
    run_local(
        name=NAME,
        storage=database,
        runs=tmp_path,
        workers=1,
        threads=1,
        runner=f"{LIGHT}:run",
        on_event=lambda e: events.append(repr(e)),
    )
    complete_once(tmp_path, 9, database)
    with Ledger.open(NAME, storage=database, runs=tmp_path, create=False) as ledger:
        kept = json.dumps([trial.model_dump(mode="json") for trial in ledger.trials()]) + "".join(
            events
        )
    for path in tmp_path.rglob("*"):
        if path.is_file():
            kept += path.read_bytes().decode("latin-1")
    assert "s3cret" not in kept


def test_a_connection_lost_while_the_planner_lock_is_held_is_an_error_and_planning_again_goes_on(
    tmp_path: Path, database: str
) -> None:
    import psycopg

    def lose_the_connection(ledger: Ledger) -> None:
        with (
            ledger._book.reachable("planning"),
            ledger._book.planning(timeout=1.0) as got,
            psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as other,
        ):
            assert got
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )

    which = light.study()
    with Ledger.open(NAME, storage=database, runs=tmp_path) as ledger:
        with pytest.raises(StorageError, match="planning failed"):
            lose_the_connection(ledger)
        assert ledger.plan(light.plan_of(which), light.cells_of(which)).new == 9


def test_a_database_that_goes_away_is_an_error_that_says_so(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError, match="could not open"):
        Ledger.open(
            NAME, storage="postgresql+psycopg://nobody:s3cret@127.0.0.1:9/none", runs=tmp_path
        )
