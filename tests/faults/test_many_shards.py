"""Fifty tasks without a server: 10,000 short cells, tasks killed at random, sent again until nothing is missing."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.ledger import Ledger
from tests import light

TASKS, AT_ONCE = 50, 4  # a cluster has a core for each; here they take turns
SEEDS, LEVELS = int(os.environ.get("SHARD_SEEDS", "1000")), 10


def submit(name: str, runs: Path, tasks: int, chance: random.Random | None) -> None:
    """Run every task, a few at once; with ``chance``, every second one is killed at some moment of its first seconds."""
    # imports once, so that starting a task costs next to nothing
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.workers.local", "tests.light"])
    left = list(range(1, tasks + 1))
    running: list[tuple[BaseProcess, float]] = []  # and when to kill it
    while left or running:
        while left and len(running) < AT_ONCE:
            process: BaseProcess = context.Process(
                target=light.shard_task, args=(name, runs, left.pop(0), tasks)
            )
            process.start()
            doomed = chance is not None and chance.random() < 0.5
            running.append(
                (
                    process,
                    time.monotonic() + (chance.uniform(0.1, 3.0) if doomed and chance else 1e9),
                )
            )
        time.sleep(0.02)
        for process, end in running:
            if time.monotonic() > end:
                process.kill()
        running = [(process, end) for process, end in running if process.is_alive()]


def test_fifty_tasks_killed_at_random_and_sent_again_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    which = light.study(SEEDS, LEVELS)
    wanted = light.cells_of(which)
    rounds, chance = 0, random.Random(3)
    while True:
        with Ledger.open(which.folder, runs=tmp_path) as ledger:
            missing = ledger.plan(light.plan_of(which), wanted).new
        if not missing:
            break
        submit(which.folder, tmp_path, TASKS, chance if rounds < 2 else None)
        rounds += 1
    with Ledger.open(which.folder, runs=tmp_path, create=False) as ledger:
        complete = [attempt.cell for attempt in ledger.attempts() if attempt.state == "complete"]
        assert len(complete) == len(set(complete)) == len(wanted) == SEEDS * LEVELS
        assert [trial.cell for trial in ledger.trials()] == [cell.key for cell in wanted]
    assert rounds > 1
