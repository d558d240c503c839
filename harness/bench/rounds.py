"""Interleaved timing: A B C, C B A, A B C, ... so that a machine that slows down slows them all.

Each case is warmed up by itself first, which also tells how often it has to be called to be worth a
look at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.bench.result import Sample
from harness.train.capture import wait

# at least, of one timed stretch: far above the clock's and the scheduler's grain
SAMPLE_SECONDS = 0.15
FEWEST_ROUNDS = 3


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to be timed.

    Attributes:
        name: as in the results.
        call: does one unit of it and returns the images it got through; a ceiling returns what it is worth in images.
        reference: name of the case it is compared with.
        ceiling: name of the case that bounds it.
        threads: CPU threads of torch while it runs.
        alone: whether all its work is done by this process's own threads, so that their time can be compared with the clock's.
        close: gives back what it holds.
    """

    name: str
    call: Callable[[], float]
    reference: str | None = None
    ceiling: str | None = None
    threads: int = 1
    alone: bool = True
    close: Callable[[], None] = _nothing


def measure(
    cases: Sequence[Case],
    *,
    device: str,
    rounds: int | None,
    seconds: float,
    on_round: Callable[[int], object],
    sample_seconds: float = SAMPLE_SECONDS,
) -> list[Sample]:
    """Time cases against each other.

    Args:
        cases: in the order of the first round.
        device: waited for around each stretch.
        rounds: so many; None for as many as the time allows.
        seconds: after which no round is begun, once there are ``FEWEST_ROUNDS``; warm-up included.
        on_round: called with the number of each round before it.
        sample_seconds: length of a timed stretch, at least.

    Returns:
        One sample a case and round.
    """
    started = time.perf_counter()
    calls = {case.name: _warm(case, device, sample_seconds) for case in cases}
    samples: list[Sample] = []
    turn = 0
    longest = 0.0
    while rounds is None or turn < rounds:
        began = time.perf_counter()
        # the longest round so far is what one more may take
        if rounds is None and turn >= FEWEST_ROUNDS and began - started + longest > seconds:
            break
        on_round(turn)
        samples += [
            _sample(case, turn, calls[case.name], device)
            # in turns forwards and backwards, so that nobody always follows the same neighbour
            for case in (cases if turn % 2 == 0 else cases[::-1])
        ]
        longest = max(longest, time.perf_counter() - began)
        turn += 1
    return samples


def _warm(case: Case, device: str, sample_seconds: float) -> int:
    """Call a case until it is warm; return how many calls make a sample."""
    case_seconds = 0.0
    # the first call builds caches and compiles; the second is timed
    for _ in range(2):
        case_seconds = _sample(case, -1, 1, device).seconds
    return max(1, round(sample_seconds / max(case_seconds, 1e-6)))


def _sample(case: Case, turn: int, calls: int, device: str) -> Sample:
    torch.set_num_threads(case.threads)
    wait(device)
    clock, cpu = time.perf_counter(), time.process_time()
    images = sum(case.call() for _ in range(calls))
    wait(device)
    return Sample(case.name, turn, images, time.perf_counter() - clock, time.process_time() - cpu)
