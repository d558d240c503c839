from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError, DeviceLostError, StorageError, UsageError, out_of_memory
from harness.ledger import Ledger
from harness.study.arms import arms
from harness.study.study import parse_study
from harness.study.trial import Cell, Curve, Outcomes, Trial
from harness.train.parts import arena
from harness.workers.drain import DrainResult, drain
from harness.workers.events import (
    Claimed,
    EpochDone,
    Event,
    Finished,
    HandedBack,
    Note,
    WorkerDied,
    decode,
    encode,
)
from harness.workers.join import _images
from harness.workers.runner import Runner, load_runner
from tests import light


def work(
    ledger: Ledger, runner: Runner = light.run, **options: Any
) -> tuple[DrainResult, list[Event]]:
    events: list[Event] = []
    hook: Callable[[Event], None] = options.pop("hook", lambda _: None)

    def on_event(event: Event) -> None:
        events.append(event)
        hook(event)

    given = {
        "worker": "w",
        "device": "cpu",
        "threads": 1,
        "deadline": None,
        "max_trials": None,
        "stop": threading.Event(),
    }
    return drain(ledger, runner, on_event=on_event, **{**given, **options}), events


def test_a_worker_drains_the_plan_and_says_so(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        result, events = work(ledger)
        assert result == DrainResult(recorded=3, failed=0, why="done")
        assert ledger.counts().complete == 3
    assert [type(event).__name__ for event in events] == [
        "Claimed",
        *["EpochDone"] * 4,
        "Finished",
    ] * 3


def test_a_worker_leaves_after_as_many_trials_as_it_was_told(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        result, _ = work(ledger, max_trials=2)
        assert (result.recorded, result.why, ledger.counts().waiting) == (2, "enough", 7)


def test_after_the_deadline_the_trial_in_hand_is_finished_and_no_other_claimed(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path) as ledger:
        result, _ = work(ledger, light.slow, deadline=time.monotonic() + 0.1)
        assert (result.recorded, result.why) == (1, "deadline")


def test_a_worker_that_finds_nothing_waiting_stays_until_what_others_run_is_final(
    tmp_path: Path,
) -> None:
    with (
        light.planned(tmp_path, seeds=1) as ledger,
        Ledger.open(ledger_name(), runs=tmp_path) as other,
    ):
        theirs = ledger.claim("other")
        assert theirs is not None
        timer = threading.Timer(0.5, lambda: ledger.release(theirs))
        timer.start()
        result, _ = work(other)
        timer.join()
        assert result.recorded == 3


def ledger_name() -> str:
    return light.study().folder


def test_an_exception_in_the_runner_fails_the_trial_and_names_its_place(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=2) as ledger:
        result, _ = work(ledger, light.broken)
        assert (result.recorded, result.failed) == (6, 3)
        (error,) = {trial.error for trial in ledger.trials() if trial.state == "failed"}
    assert error.startswith("RuntimeError: the net has no layers (light.py:")


def test_a_runner_that_exits_fails_its_trial_and_not_the_worker(tmp_path: Path) -> None:
    def leaving(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
        raise SystemExit(3)

    with light.planned(tmp_path, seeds=1) as ledger:
        assert work(ledger, leaving)[0].failed == 3


def test_memory_that_runs_out_is_a_failure_of_the_infrastructure_and_is_retried(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        work(ledger, light.hungry)
        assert [attempt.cause for attempt in ledger.attempts()] == ["infrastructure"] * 9
        assert {trial.attempt for trial in ledger.trials()} == {3}


def test_a_device_out_of_memory_is_told_by_name_without_importing_a_framework(
    tmp_path: Path,
) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    def hungry(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
        raise OutOfMemoryError("tried to allocate 20 GiB")

    with light.planned(tmp_path, seeds=1, retries=0) as ledger:
        work(ledger, hungry)
        assert {trial.cause for trial in ledger.trials()} == {"infrastructure"}


@pytest.mark.parametrize(
    "status", ["CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"]
)
def test_a_library_that_could_not_allocate_ran_out_of_memory(status: str) -> None:
    assert out_of_memory(RuntimeError(f"CUDA error: {status}"))
    assert not out_of_memory(ValueError(status))


def test_a_gpu_that_answers_no_more_ends_the_worker_and_the_trial_is_lost_to_the_infrastructure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def dead(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", dead)

    def runner(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
        dead()
        raise AssertionError

    with light.planned(tmp_path, seeds=1) as ledger:
        with pytest.raises(DeviceLostError, match="device-side assert"):
            work(ledger, runner, device="cuda")
        assert [attempt.cause for attempt in ledger.attempts() if attempt.cause] == [
            "infrastructure"
        ]


def test_a_loss_that_is_not_finite_makes_a_diverged_trial_that_names_the_step(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        work(ledger, light.diverging)
        trials = ledger.trials()
    assert {(trial.state, trial.epochs) for trial in trials} == {("diverged", 2)}
    assert "at step 17" in trials[0].error


def test_missing_images_end_the_worker_and_the_cell_waits_for_others(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        with pytest.raises(DataError, match="images are gone"):
            work(ledger, light.without_data)
        assert ledger.counts().waiting == 3


def test_a_runner_that_returns_another_cell_has_failed(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        other = ledger.cells()[0]

        def confused(_: Cell, **__: Any) -> tuple[Trial, Outcomes | None]:
            return light.trial_of(other), None

        work(ledger, confused)
        assert [trial.state for trial in ledger.trials()] == ["complete", "failed", "failed"]


def test_what_cannot_be_stored_fails_its_trial_and_the_next_is_run(tmp_path: Path) -> None:
    def odd(cell: Cell, **_: Any) -> tuple[Trial, Outcomes | None]:
        return light.trial_of(cell, tuned={"net": object()}), None

    with light.planned(tmp_path, seeds=1) as ledger:
        work(ledger, odd)
        assert all("could not store" in trial.error for trial in ledger.trials())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_hands_the_cell_back_in_the_midst_of_an_epoch(tmp_path: Path, number: int) -> None:
    def press(event: Event) -> None:
        if isinstance(event, Claimed):
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

    with light.planned(tmp_path) as ledger:
        result, events = work(ledger, light.endless, hook=press)
        assert result == DrainResult(recorded=0, failed=0, why="stopped")
        assert isinstance(events[-1], HandedBack)
        assert ledger.counts().waiting == 9


def test_a_worker_in_another_thread_hands_its_cell_back_at_the_end_of_the_epoch(
    tmp_path: Path,
) -> None:
    stop = threading.Event()
    results: list[DrainResult] = []

    def hook(event: Event) -> None:
        if isinstance(event, EpochDone):
            stop.set()

    with light.planned(tmp_path) as ledger:
        thread = threading.Thread(
            target=lambda: results.append(work(ledger, stop=stop, hook=hook)[0])
        )
        thread.start()
        thread.join(timeout=30)
        assert results == [DrainResult(recorded=0, failed=0, why="stopped")]
        assert ledger.counts().waiting == 9


def test_the_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with light.planned(tmp_path, seeds=1) as ledger:
        work(ledger)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_result_that_came_too_late_is_told_of_and_not_recorded(tmp_path: Path) -> None:
    with (
        light.planned(tmp_path, seeds=1) as ledger,
        Ledger.open(ledger_name(), runs=tmp_path) as other,
    ):

        def overtaken(cell: Cell, **_: Any) -> tuple[Trial, Outcomes | None]:
            attempts = [attempt for attempt in other.attempts() if attempt.state == "running"]
            if len(other.attempts()) == 1:
                other._book.fail(attempts[0].number, cause="infrastructure", error="taken for dead")
            return light.trial_of(cell), None

        result, events = work(ledger, overtaken)
        assert result.recorded == 3
        assert len([event for event in events if isinstance(event, Note)]) == 1
        assert ledger.counts().complete == 3


def test_a_trial_says_where_and_with_what_it_was_run(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        work(ledger, device="cpu", threads=3)
        environment = ledger.trials()[0].environment
    assert (environment.device, environment.threads) == ("cpu", 3)
    assert environment.python
    assert environment.host
    assert environment.optuna


def test_a_worker_that_cannot_write_artifacts_does_not_claim(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        (tmp_path / ledger_name() / "artifacts").write_text("in the way", encoding="utf-8")
        with pytest.raises(StorageError, match="could not write artifacts"):
            work(ledger)
        assert ledger.attempts() == []


@pytest.mark.parametrize(
    "event",
    [
        Claimed("w", "c", 1, 2),
        EpochDone("w", "c", 0, 4, {"val_accuracy": 0.5}),
        Finished(
            "w",
            light.trial_of(light.cells_of(light.study())[1]).model_copy(update={"curve": Curve()}),
        ),
        HandedBack("w", "c"),
        WorkerDied("w", "killed by SIGKILL"),
        Note("w", "ä\nb"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_crosses_a_pipe_as_one_line(event: Event) -> None:
    assert "\n" not in encode(event)
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "hello", '{"event": "Claimed"}', '{"event": "Finished", "trial": 3}']
)
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(line)


def test_a_runner_is_found_by_module_and_by_file() -> None:
    assert load_runner("tests.light:run") is light.run
    assert callable(load_runner(f"{light.__file__}:run"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("light", "module:function"),
        ("no.such.module:run", "could not import"),
        ("no/file.py:run", "could not import"),
        ("tests.light:walk", "no 'walk'"),
    ],
)
def test_a_runner_that_cannot_be_found_is_an_error_that_says_what_is_missing(
    name: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        load_runner(name)


def test_a_worker_looks_at_the_images_that_the_plan_was_made_on() -> None:
    """A factor may set the images: then those of the first arm are not those of the base recipe."""
    raw = {
        "question": "?",
        "margin_pp": 1.0,
        "seeds": 2,
        "design": "leave-one-out",
        "base": {"data.name": "fashion"},
        "factors": [
            {"name": "large", "field": "data.size", "off": 0, "on": 32},
            {"name": "drop", "field": "model.dropout", "off": 0.0, "on": 0.25},
        ],
    }
    study = parse_study(raw, name="z").under("quick")
    plan = light.plan_of(study)
    first = arena(arms(study)[0].recipe.data, "cpu").split.fingerprint
    base = arena(study.base_recipe.data, "cpu").split.fingerprint
    assert (_images(plan, search=False), _images(plan, search=True)) == (first, base)
    assert first != base
