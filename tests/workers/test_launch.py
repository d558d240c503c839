from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StorageError
from harness.ledger import Ledger
from harness.workers.events import Claimed, Event, Finished, WorkerDied
from harness.workers.join import LaunchResult
from harness.workers.local import run_local
from tests import light

LIGHT = str(Path(light.__file__))


def launch(
    runs: Path, runner: str = "run", workers: int = 2, **options: Any
) -> tuple[LaunchResult, list[Event]]:
    events: list[Event] = []
    on_event = options.pop("on_event", lambda _: None)

    def note(event: Event) -> None:
        events.append(event)
        on_event(event)

    name = light.study().folder
    result = run_local(
        name=name,
        runs=runs,
        workers=workers,
        threads=1,
        runner=f"{LIGHT}:{runner}",
        on_event=note,
        **options,
    )
    return result, events


def reopened(runs: Path) -> Ledger:
    return Ledger.open(light.study().folder, runs=runs, create=False)


def test_two_worker_processes_complete_every_planned_cell_once(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    result, events = launch(tmp_path)
    with reopened(tmp_path) as ledger:
        trials = ledger.trials()
        assert [trial.state for trial in trials] == ["complete"] * 9
        assert len(ledger.attempts()) == 9
    finished = [event.trial.cell for event in events if isinstance(event, Finished)]
    assert sorted(finished) == sorted(trial.cell for trial in trials)
    assert result == LaunchResult(9, 0, 0, 0, interrupted=False, out_of_time=False)


def test_a_worker_that_kills_itself_on_each_cell_once_is_replaced_and_every_cell_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHT_MARKS", str(tmp_path))
    light.planned(tmp_path, seeds=1).close()
    result, events = launch(tmp_path, "suicidal", workers=1)
    with reopened(tmp_path) as ledger:
        assert ledger.counts().complete == 3
        lost = [attempt for attempt in ledger.attempts() if attempt.state == "failed"]
        assert [attempt.cause for attempt in lost] == ["infrastructure"] * 3
    assert result.died == 3
    assert any(isinstance(event, WorkerDied) and "SIGKILL" in event.reason for event in events)


def test_a_worker_that_dies_three_times_in_a_row_is_not_started_again(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=1).close()
    result, _ = launch(tmp_path, "doomed", workers=1)
    assert result.died == 3
    assert result.error is not None
    assert "3 times in a row" in result.error.message


def test_a_runner_that_raises_makes_failed_trials_that_say_where(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=2).close()
    result, _ = launch(tmp_path, "broken")
    with reopened(tmp_path) as ledger:
        failed = [trial for trial in ledger.trials() if trial.state == "failed"]
    assert result.failed == len(failed) == 3
    assert {trial.cause for trial in failed} == {"code"}
    assert all(
        trial.error.startswith("RuntimeError: the net has no layers (light.py:") for trial in failed
    )


def test_after_the_deadline_no_cell_is_claimed_and_the_rest_still_waits(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=4).close()
    result, _ = launch(tmp_path, "run", deadline=time.monotonic())
    assert result.out_of_time
    assert (result.recorded, result.open) == (0, 12)


def test_missing_data_end_the_run_with_their_own_error_and_leave_the_cells_waiting(
    tmp_path: Path,
) -> None:
    light.planned(tmp_path).close()
    result, _ = launch(tmp_path, "without_data")
    assert result.error is not None
    assert (result.error.message, result.error.hint) == ("the images are gone", "bring them back")
    with reopened(tmp_path) as ledger:
        assert ledger.counts().waiting == 9


def test_launching_without_a_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no journal"):
        launch(tmp_path)


def _press(number: int, when: Callable[[Event], bool]) -> Callable[[Event], None]:
    """Send this process a signal at the first event that is meant."""
    pressed = threading.Event()

    def on_event(event: Event) -> None:
        if when(event) and not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), number)

    return on_event


def test_ctrl_c_hands_cells_back_in_the_midst_of_an_epoch_and_running_again_completes_them(
    tmp_path: Path,
) -> None:
    light.planned(tmp_path, seeds=1).close()
    result, _ = launch(
        tmp_path,
        "endless",
        on_event=_press(signal.SIGINT, lambda event: isinstance(event, Claimed)),
    )
    assert result.interrupted
    with reopened(tmp_path) as ledger:
        assert ledger.counts().waiting == 3
        assert {attempt.cause for attempt in ledger.attempts()} == {"handed back"}
    again, _ = launch(tmp_path)
    assert again.recorded == 3


PROGRAM = """
import sys
from pathlib import Path
from harness.workers.local import run_local
from tests import light
run_local(name=light.study().folder, runs=Path(sys.argv[1]), workers=2, threads=1,
          runner=f"{light.__file__}:slow", on_event=lambda event: print(type(event).__name__, flush=True))
"""


def test_when_the_program_is_killed_its_workers_end_and_the_next_run_completes_the_plan_at_once(
    tmp_path: Path,
) -> None:
    light.planned(tmp_path, seeds=2, grace_seconds=60.0).close()
    here = Path(light.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(here)},
    ) as program:
        assert program.stdout is not None
        while program.stdout.readline().strip() != "Finished":
            pass
        program.kill()
    result, _ = launch(tmp_path)
    with reopened(tmp_path) as ledger:
        assert ledger.counts().complete == 6
        states = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
    assert sorted(states) == sorted(set(states))
    assert result.open == 0
