"""Launchers for clusters, on this machine: submitit's local executor, and a Ray cluster of two nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import Ledger
from harness.workers.cluster import Ask, run_ray, run_slurm
from harness.workers.events import Event, Finished
from harness.workers.join import LaunchResult
from tests import light
from tests.faults.test_kills import plain

SEEDS, LEVELS = 8, 5
NAME = light.study(SEEDS, LEVELS).folder


def checked(runs: Path, result: LaunchResult, events: list[Event]) -> None:
    with Ledger.open(NAME, runs=runs, create=False) as ledger:
        complete = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
        assert len(complete) == len(set(complete)) == SEEDS * LEVELS
        assert ledger.counts().complete == SEEDS * LEVELS
        assert len({trial.worker for trial in ledger.trials()}) > 1
        expected = plain(
            [light.trial_of(cell) for cell in light.cells_of(light.study(SEEDS, LEVELS))]
        )
        assert plain(ledger.trials()) == expected
    assert (
        len([event for event in events if isinstance(event, Finished)])
        == result.recorded
        == SEEDS * LEVELS
    )


def test_submitits_local_executor_drains_a_study_in_shards(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    light.planned(tmp_path, SEEDS, LEVELS).close()
    events: list[Event] = []
    result = run_slurm(
        name=NAME,
        runs=tmp_path,
        workers=3,
        ask=Ask(minutes=5),
        runner=f"{light.__file__}:run",
        on_event=events.append,
        cluster="local",
    )
    checked(tmp_path, result, events)


@pytest.fixture
def nodes(ray_cluster: Any) -> Iterator[Any]:
    """The Ray cluster, with this process as its driver."""
    import ray

    ray.init(address=ray_cluster.address, log_to_driver=False)
    try:
        yield ray_cluster
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # ray's own: it leaves processes and files to the collector
def test_a_ray_cluster_of_two_nodes_drains_a_study_and_survives_the_loss_of_one(
    tmp_path: Path, nodes: Any
) -> None:
    light.planned(tmp_path, SEEDS, LEVELS).close()
    events: list[Event] = []
    lost = threading.Event()

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished) and not lost.is_set():
            lost.set()
            nodes.remove_node(min(nodes.worker_nodes, key=id), allow_graceful=False)

    result = run_ray(
        name=NAME,
        runs=tmp_path,
        workers=4,
        ask=Ask(cpus=1),
        runner=f"{light.__file__}:slow",
        on_event=on_event,
    )
    assert lost.is_set()
    checked(tmp_path, result, events)
