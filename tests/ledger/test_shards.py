from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.errors import StorageError, TrialError, UsageError
from harness.ledger import Ledger, parse_shard, shard_of_environment
from harness.workers.drain import drain
from harness.workers.join import join
from tests import light

NAME = light.study().folder


def work(runs: Path, shard: tuple[int, int], max_trials: int | None = None) -> int:
    result = join(
        name=NAME,
        runs=runs,
        shard=shard,
        runner="tests.light:run",
        max_trials=max_trials,
        on_event=lambda _: None,
        stop=None,
    )
    return result.recorded


def test_two_shards_together_run_every_cell_once(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    assert work(tmp_path, (1, 2)) + work(tmp_path, (2, 2)) == 9
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert ledger.counts().complete == 9
        assert [attempt.state for attempt in ledger.attempts()] == ["complete"] * 9
        assert all(len(ledger.artifact(trial)[0]) == light.EPOCHS for trial in ledger.trials())


def test_opening_twice_takes_a_result_over_once(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    work(tmp_path, (1, 3))
    for _ in range(2):
        with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
            assert ledger.absorb() == 0
            assert len(ledger.attempts()) == 3


def test_a_shard_that_is_sent_again_runs_only_what_it_has_left(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    assert work(tmp_path, (1, 2), max_trials=2) == 2
    assert work(tmp_path, (1, 2)) == 3


def test_planning_again_divides_only_what_is_missing(tmp_path: Path) -> None:
    which = light.study()
    light.planned(tmp_path).close()
    work(tmp_path, (1, 3))
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        assert ledger.plan(light.plan_of(which), light.cells_of(which)).kept == 3
    assert [work(tmp_path, (index, 2)) for index in (1, 2)] == [3, 3]


def test_a_cell_whose_artifact_was_lost_is_run_again_by_the_same_shard_and_counts(
    tmp_path: Path,
) -> None:
    which = light.study()
    light.planned(tmp_path).close()
    assert work(tmp_path, (1, 1)) == 9
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert ledger.counts().complete == 9
    min((tmp_path / NAME / "artifacts").glob("*.npz")).unlink()
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        assert ledger.plan(light.plan_of(which), light.cells_of(which)).new == 1
    assert work(tmp_path, (1, 1)) == 1
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert (ledger.counts().complete, ledger.counts().waiting) == (9, 0)


def test_a_cell_that_two_shards_ran_counts_once(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    with (
        Ledger.open_shard(NAME, (1, 1), runs=tmp_path) as one,
        Ledger.open_shard(NAME, (1, 3), runs=tmp_path) as other,
    ):
        for ledger in (one, other):
            drain(
                ledger,
                light.run,
                worker="w",
                device="cpu",
                threads=1,
                deadline=None,
                max_trials=None,
                on_event=lambda _: None,
                stop=threading.Event(),
            )
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert len(ledger.attempts()) == ledger.counts().complete == 9


def test_what_a_shard_finished_is_not_run_by_a_plain_worker(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    work(tmp_path, (2, 3))
    assert (
        join(name=NAME, runs=tmp_path, runner="tests.light:run", on_event=lambda _: None).recorded
        == 6
    )


def test_a_shard_without_a_plan_is_refused(tmp_path: Path) -> None:
    Ledger.open(NAME, runs=tmp_path).close()
    with pytest.raises(StorageError, match="nothing is planned"):
        work(tmp_path, (1, 2))


def test_another_plan_is_refused_while_a_shard_task_runs(tmp_path: Path) -> None:
    more = light.study(seeds=4)
    light.planned(tmp_path).close()
    with Ledger.open_shard(NAME, (1, 2), runs=tmp_path) as task:
        assert task.claim("task") is not None
        with Ledger.open(NAME, runs=tmp_path) as ledger:
            assert ledger.counts().running == 1
            with pytest.raises(StorageError, match="workers: task"):
                ledger.plan(light.plan_of(more), light.cells_of(more))


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "²/3"])
def test_a_shard_that_is_not_of_its_form_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="should have the form I/N"):
        parse_shard(text)


def test_shards_count_from_one_and_job_arrays_from_wherever_they_start() -> None:
    array = {
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_ARRAY_TASK_MIN": "5",
        "SLURM_ARRAY_TASK_COUNT": "10",
    }
    assert parse_shard("3/10") == shard_of_environment(array) == (3, 10)
    assert shard_of_environment({}) is None


def test_a_shard_whose_first_trials_fail_alike_stops_with_the_traceback(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=4).close()
    with pytest.raises(
        TrialError, match="stopped: the first 3 trials failed in the same way"
    ) as caught:
        join(
            name=light.study(4).folder,
            runs=tmp_path,
            shard=(1, 2),
            runner="tests.light:hopeless",
            on_event=lambda _: None,
        )
    assert "in hopeless" in caught.value.message
    assert "the command that planned this study" in caught.value.hint
    with Ledger.open(light.study(4).folder, runs=tmp_path, create=False) as ledger:
        assert (ledger.counts().failed, ledger.counts().waiting) == (3, 9)


def test_a_worker_goes_on_after_failures_where_another_trial_of_the_plan_has_ended_well(
    tmp_path: Path,
) -> None:
    light.planned(tmp_path).close()
    work(tmp_path, (1, 3), max_trials=1)
    done = join(name=NAME, runs=tmp_path, runner="tests.light:hopeless", on_event=lambda _: None)
    assert (done.recorded, done.failed) == (8, 8)
